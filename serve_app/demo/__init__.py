"""The demo checkpoints: real pipelines at small size, which need no download.

A trained one lies in this package, in the folder of its name, and is used where it lies. The others are made by our
own code, once, safely, on a machine that several processes share. Imports no torch until one has to be made.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from serve_app.demo.checksums import check_files

Advance = Callable[[str], None]
"""Called with the name of a part as soon as it is made."""

RECIPE = 3
"""Raised whenever a checkpoint would come out different: an older one in a cache folder is then made anew."""

_MODULES = {"demo/flux-tiny": "image", "demo/wan-tiny": "video"}
TRAINED = ("demo/llada2-tiny",)
"""Those that lie in this package: `demo/some-name` in the folder some-name, with its SHA256SUMS."""
NAMES = (*TRAINED, *_MODULES)


def is_demo(name: str) -> bool:
    """Whether `name` is one of the demo models."""
    return name in NAMES


def ensure(name: str, home: Path, progress: bool = False) -> Path:
    """The folder of the demo checkpoint `name`: in this package, or below `home`/models and made first if missing.

    Several processes may ask at once: one makes it, in a temporary folder that is renamed, the others wait.
    Raises ValueError for a name that is not in NAMES, and for a trained checkpoint that is damaged.
    """
    if name in TRAINED:
        folder = Path(__file__).parent / name.removeprefix("demo/")
        check_files(folder)
        return folder
    if name not in _MODULES:
        raise ValueError(f"'{name}' is no demo model; the demo models are {', '.join(NAMES)}")
    folder = home / "models" / name
    if _is_complete(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if not _is_complete(folder):
            _make(name, folder, progress)
    return folder


def _make(name: str, folder: Path, progress: bool) -> None:
    recipe = _recipe(name)
    with (
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary,
        tqdm(total=len(recipe.PARTS), desc=name, unit="part", disable=not progress) as bar,
    ):
        made = Path(temporary) / folder.name

        def advance(part: str) -> None:
            bar.set_postfix_str(part)
            bar.update()

        recipe.make(made, advance)
        (made / "demo.json").write_text(json.dumps({"model": name, "recipe": RECIPE}) + "\n")
        if folder.exists():
            _remove_older(folder)
        os.replace(made, folder)


def _remove_older(folder: Path) -> None:
    """Removes a checkpoint of another recipe. Raises FileExistsError where the folder was not made here."""
    if not (folder / "demo.json").is_file():
        raise FileExistsError(f"{folder} is no demo checkpoint that was made here: move it away, or name another home")
    shutil.rmtree(folder)


def _recipe(name: str) -> ModuleType:
    import transformers

    # before the recipe's imports: importing a pipeline says at length which image libraries are not installed
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return import_module(f"{__name__}.{_MODULES[name]}")


def _is_complete(folder: Path) -> bool:
    # demo.json is written last and the folder is renamed into place, so its presence says that all the rest is there
    try:
        return json.loads((folder / "demo.json").read_text())["recipe"] == RECIPE
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
