"""Finds settings that would fail on this machine: missing folders, variables and GPUs, arguments an engine refuses.

Each check uses the code that would fail at the start. None uses the network.
"""

import importlib.util
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, ParamSpec, Self
from urllib.parse import unquote, urlsplit

from ray._private.accelerators import get_accelerator_manager_for_resource

from serve_app import demo
from serve_app.engines.diffusers.arguments import local_folder, parse_algorithm, parse_engine_args
from serve_app.engines.families import algorithms_of
from serve_app.engines.load import choose
from serve_app.engines.lora import find_local_file
from serve_app.errors import GenerationFailed
from serve_app.ingress.auth import Keys
from serve_app.media.videos import check_encoder
from serve_app.model_settings import DiffusionSettings, ModelSettings, TextSettings
from serve_app.settings import Profile, Settings

P = ParamSpec("P")
Finding = tuple[str, str]
"""The path of a key below the settings, and what is wrong with it."""


def look(settings: Settings) -> Iterator[Finding]:
    """Everything that these resolved settings need and this machine lacks."""
    for name, model in settings.served.items():
        yield from ((f"models.{name}.{key}", message) for key, message in _look_at_model(model))
        if model.kind == "video":
            yield from _find(f"models.{name}", check_encoder)
    yield from _find("access", Keys.load, settings.access)
    media = urlsplit(settings.media.root)
    if media.scheme == "file":
        yield from _not_writable("media.root", Path(unquote(media.path)))
    if any(choose(model) == "sglang" for model in settings.served.values()):  # keeps what compilers make there
        yield from _not_writable("home", Path(settings.home))
    if settings.telemetry.otlp_endpoint and importlib.util.find_spec("opentelemetry.exporter.otlp") is None:
        yield "telemetry.otlp_endpoint", "needs the extra `otel`, which is not installed"


@dataclass(frozen=True)
class Machine:
    """What decides which profile runs here, and whether it can: the GPUs that a Ray on this machine has, and SGLang."""

    gpus: int
    has_sglang: bool

    @classmethod
    def this(cls) -> Self:
        """This machine, by the code with which Ray counts at its start."""
        manager = get_accelerator_manager_for_resource("GPU")
        assert manager is not None, "Ray has a manager of GPUs where there are none, too"
        visible = manager.get_current_process_visible_accelerator_ids()
        gpus = manager.get_current_node_num_accelerators()
        return cls(
            gpus=gpus if visible is None else min(gpus, len(visible)),
            has_sglang=importlib.util.find_spec("sglang") is not None,
        )

    def choose_profile(self, asked: Profile) -> Literal["demo", "gpu"]:
        """The profile that runs here; `auto` is chosen as the application does it (`app.choose_profile`)."""
        if asked != "auto":
            return asked
        return "gpu" if self.gpus and self.has_sglang else "demo"

    def find_missing(self, settings: Settings) -> Iterator[Finding]:
        """The GPUs and SGLang that these resolved settings need to start and this machine lacks."""
        for name, model in settings.served.items():
            if choose(model) == "sglang" and not self.has_sglang:
                yield f"models.{name}.engine", "sglang is not installed on this machine (make setup PROFILE=gpu)"
            if math.ceil(model.gpus) > self.gpus:
                yield f"models.{name}.gpus", f"a replica needs {model.gpus:g} GPU, and this machine has {self.gpus}"
        largest = max((math.ceil(model.gpus) for model in settings.served.values()), default=0)
        first = {name: model.gpus * model.replicas.min for name, model in settings.served.items()}
        together = round(sum(first.values()), 6)
        if largest <= self.gpus < together:
            each = ", ".join(f"{name} {gpus:g}" for name, gpus in first.items() if gpus)
            need = f"the first replicas need {together:g} GPUs together ({each})"
            yield "models", f"{need}, and this machine has {self.gpus}"


def _look_at_model(model: ModelSettings) -> Iterator[Finding]:
    yield from _find("model", local_folder, model.model)
    for name, adapter in model.adapters.items() if isinstance(model, DiffusionSettings) else ():
        yield from _find(f"adapters.{name}.path", lambda path: find_local_file(demo.find_file(path)), adapter.path)
    if choose(model) == "diffusers":
        yield from _find("engine_args", parse_engine_args, model)
        if isinstance(model, TextSettings):
            yield from _find("algorithm", parse_algorithm, model, algorithms_of(model))


def _find(key: str, check: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Iterator[Finding]:
    """What `check` raises, as a finding at `key`."""
    try:
        check(*args, **kwargs)
    except (OSError, ValueError, GenerationFailed) as error:
        yield key, str(error)


def _not_writable(key: str, folder: Path) -> Iterator[Finding]:
    """Why `folder` cannot be made or written to. Tries it in the part of the path that exists."""
    there = next(above for above in (folder, *folder.parents) if above.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".diffusion-serve-check-", dir=there):
            pass
    except OSError as error:
        yield key, f"{folder} cannot be written: {error.strerror}"
