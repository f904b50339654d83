"""What loading a model has in common for the three kinds: where it lies, on which device and in which dtype."""

import os
from typing import Any

import diffusers
import torch
import transformers
from packaging.version import Version
from torch import nn

from serve_app.engines.diffusers.arguments import local_folder, parse_engine_args
from serve_app.model_settings import ModelSettings

MAX_THREADS = 8
"""More threads for one operation seldom help, and a container may own far fewer cores than its host shows."""
SMALL_MODEL = 50_000_000
"""Parameters below which one thread is used: a second one waits more than it works, busily, and where other replicas
share the cores it made the demo text model ten times slower."""


class Source:
    """A model to load: a folder or hub id, on which device and in which dtype.

    `hub_arguments` name the revision, or keep a folder from asking the hub.
    """

    def __init__(self, settings: ModelSettings) -> None:
        """float32 on a CPU, bfloat16 on a GPU, unless the settings say more. ValueError for what can't be loaded."""
        args = parse_engine_args(settings)
        folder = local_folder(settings.model)
        self.model = str(folder or settings.model)
        usual = "cuda" if settings.gpus > 0 and torch.cuda.is_available() else "cpu"
        self.device = torch.device(args.device or usual)
        self.dtype: torch.dtype = getattr(torch, args.dtype or ("float32" if self.device.type == "cpu" else "bfloat16"))
        self.trust_remote_code = settings.trust_remote_code
        revision = {"revision": settings.revision} if settings.revision else {}
        self.hub_arguments: dict[str, Any] = revision if folder is None else {"local_files_only": True}
        self._threads = args.threads

    @property
    def dtype_argument(self) -> dict[str, Any]:
        """For a pipeline's `from_pretrained` and `from_pipe`; diffusers renamed torch_dtype in 0.42."""
        renamed = Version(diffusers.__version__) >= Version("0.42")
        return {"dtype" if renamed else "torch_dtype": self.dtype}

    def threads(self, *modules: nn.Module) -> int:
        """Threads for one operation on these modules: as the settings say, else by their size and this machine."""
        if self._threads is not None:
            return self._threads
        parameters = sum(parameter.numel() for module in modules for parameter in module.parameters())
        return 1 if parameters < SMALL_MODEL else min(len(os.sched_getaffinity(0)), MAX_THREADS)


def quiet() -> None:
    """Turns off the libraries' progress bars, and their log lines below errors: some of those quote prompts."""
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
