"""What both engines ask of adapters (LoRA): where a file lies, whether it is one, and whether a model has it."""

from collections.abc import Container, Sequence
from pathlib import Path

from serve_app.errors import UnsupportedParameter
from serve_app.tasks import Adapter


def fetch_file(path: str) -> Path:
    """The file on this machine, fetched from the hub where `path` names one there; ValueError unless it is a LoRA."""
    from safetensors import SafetensorError, safe_open

    file = find_local_file(path) or _download(path)
    try:
        with safe_open(file, framework="np") as opened:
            names: list[str] = list(opened.keys())
    except SafetensorError as error:
        raise ValueError(f"it is no safetensors file ({error})") from error
    if not any("lora" in name for name in names):
        raise ValueError("it holds no LoRA: none of its tensors is named so")
    return file


def _download(path: str) -> Path:
    from huggingface_hub import hf_hub_download

    owner, repository, file = path.split("/", 2)
    try:
        return Path(hf_hub_download(f"{owner}/{repository}", file))
    except OSError as error:  # as all errors of the hub are
        raise ValueError(f"it could not be fetched from the hub: {error}") from error


def refuse_unknown(chosen: Sequence[Adapter], known: Container[str]) -> None:
    """UnsupportedParameter for one that the model does not have."""
    for adapter in chosen:
        if adapter.name not in known:
            raise UnsupportedParameter(f"This model has no adapter '{adapter.name}'.", param="nvext.adapters")


def find_local_file(path: str) -> Path | None:
    """The file on this machine; None where `path` names one on the hub. ValueError where it does not exist."""
    local = Path(path).expanduser()
    if local.is_file():
        return local
    if path.startswith(("/", ".", "~")) or path.count("/") < 2:  # owner/repository/file, which may lie in folders
        raise ValueError(f"the file '{path}' does not exist")
    return None
