"""What loading a model has in common for the three kinds: where it lies, what it is, on which device and dtype."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers
from packaging.version import Version
from torch import nn

from serve_app.engines.diffusers.arguments import local_folder, parse_engine_args
from serve_app.engines.diffusers.convolutions import use_onednn
from serve_app.model_settings import ModelSettings
from serve_app.tasks import Kind

MAX_THREADS = 8
"""More threads for one operation seldom help, and a container may own far fewer cores than its host shows."""
SMALL_MODEL = 50_000_000
"""Parameters below which one thread is used: a second one waits more than it works, busily, and where other replicas
share the cores it made the demo text model ten times slower."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model to load: a folder or hub id, and the keyword arguments that keep a folder from asking the hub."""

    model: str
    local: bool
    device: torch.device
    dtype: torch.dtype
    written_threads: int | None
    revision: str | None
    trust_remote_code: bool

    @property
    def hub_arguments(self) -> dict[str, Any]:
        if self.local:
            return {"local_files_only": True}
        return {"revision": self.revision} if self.revision else {}

    @property
    def dtype_argument(self) -> dict[str, Any]:
        """For a pipeline's `from_pretrained` and `from_pipe`; diffusers renamed torch_dtype in 0.42."""
        renamed = Version(diffusers.__version__) >= Version("0.42")
        return {"dtype" if renamed else "torch_dtype": self.dtype}

    def threads(self, *modules: nn.Module) -> int:
        """Threads for one operation on these modules: as the settings say, else by their size and this machine."""
        if self.written_threads is not None:
            return self.written_threads
        parameters = sum(parameter.numel() for module in modules for parameter in module.parameters())
        return 1 if parameters < SMALL_MODEL else min(len(os.sched_getaffinity(0)), MAX_THREADS)


def source(settings: ModelSettings) -> Source:
    """Reads `settings` and this machine; float32 on a CPU, bfloat16 on a GPU. ValueError for what can't be loaded."""
    args = parse_engine_args(settings)
    folder = local_folder(settings.model)
    device = torch.device(args.device or ("cuda" if settings.gpus > 0 and torch.cuda.is_available() else "cpu"))
    dtype = args.dtype or ("float32" if device.type == "cpu" else "bfloat16")
    return Source(
        model=str(folder or settings.model),
        local=folder is not None,
        device=device,
        dtype=getattr(torch, dtype),
        written_threads=args.threads,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
    )


def read_class(source: Source, kind: Kind, known: tuple[str, ...]) -> str:
    """The pipeline or, of a text model, the architecture that the checkpoint names; ValueError unless it is `known`."""
    pipeline: Any = diffusers.DiffusionPipeline
    try:
        if kind == "text":
            config, _ = transformers.PreTrainedConfig.get_config_dict(source.model, **source.hub_arguments)
            name = next(iter(config.get("architectures") or ()), None)
        else:
            name = pipeline.load_config(source.model, **source.hub_arguments).get("_class_name")
    except (OSError, ValueError) as error:
        raise ValueError(f"'{source.model}' is no {kind} model: {error}") from error
    if name is None:
        raise ValueError(f"'{source.model}' is no {kind} model: it has no configuration that names its class")
    if name not in known:
        raise ValueError(f"'{source.model}' is a {name}, no {kind} model this engine knows: {', '.join(known)}")
    return name


def check_release(what: str, since: str, installed: str = diffusers.__version__) -> None:
    """ValueError where `what` needs a later release of diffusers than the installed one."""
    if Version(installed) < Version(since):
        raise ValueError(f"{what}, which needs diffusers {since} or later; {installed} is installed")


def load_pipeline(cls: Any, source: Source, **parts: Any) -> Any:
    """The pipeline of class `cls`, with some parts given, on its device; ValueError where the checkpoint is broken."""
    try:
        pipeline = cls.from_pretrained(source.model, **source.hub_arguments, **source.dtype_argument, **parts)
    except (OSError, ValueError) as error:
        raise ValueError(f"'{source.model}' could not be loaded as {cls.__name__}: {error}") from error
    if source.device.type == "cpu":
        use_onednn(pipeline.vae)
    return pipeline.to(source.device)


def quiet() -> None:
    """Turns off the libraries' progress bars, and their log lines below errors: some of those quote prompts."""
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
