"""`engine: diffusers` on a GPU: a small checkpoint of each family of images and of videos, and who is refused."""

from __future__ import annotations

import gc
import io
import json
import time
import weakref
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from packaging.version import Version
from PIL import Image

from serve_app.engines.diffusers.families import families_of
from serve_app.engines.diffusers.families.base import Family, ImageFamily, VideoFamily
from serve_app.engines.diffusers.families.text import TextFamily
from serve_app.engines.load import load
from serve_app.model_settings import ImageSettings, TextSettings, VideoSettings
from serve_app.tasks import ImageTask, VideoTask
from tests.engines.diffusers.families.checkpoints import checkpoints_of
from tests.engines.diffusers.families.parts import Checkpoint

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
IMAGES: dict[str, Checkpoint] = checkpoints_of(ImageFamily)
VIDEOS: dict[str, Checkpoint] = checkpoints_of(VideoFamily)
FAMILIES: list[type[Family]] = [*families_of(ImageFamily), *families_of(VideoFamily), *families_of(TextFamily)]
LACKING = [family for family in FAMILIES if Version(diffusers.__version__) < Version(family.since)]
EDIT_ALONE = ("qwen-image-edit", "qwen-image-edit-plus")
FROM_IMAGE_ALONE = {"wan-i2v": 1, "wan-flf2v": 2, "wan-a14b": 1}
"""How many frames must be given, at least."""
SHAPE = (50, 70, 3)
TASK: dict[str, Any] = {
    "model": "tiny",
    "prompt": "a red cat",
    "width": 70,
    "height": 50,
    "seed": 7,
    "num_inference_steps": 2,
}


def png(color: str, *, half: bool = True) -> bytes:
    """White, with one half in a color, or all in it."""
    picture = Image.new("RGB", (64, 48), "white")
    picture.paste(color, (0, 0, 32 if half else 64, 48))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def settings(kind: type[ImageSettings | VideoSettings | TextSettings], folder: Path) -> Any:
    return kind.model_validate({"model": str(folder), "served_name": "tiny", "engine": "diffusers", "gpus": 1})


def load_checkpoint(kind: type[ImageSettings | VideoSettings], checkpoint: Checkpoint, folder: Path) -> Any:
    """The engine of a small checkpoint; skips one of a family that the installed diffusers lacks."""
    checkpoint.make(folder)
    name = json.loads((folder / "model_index.json").read_text())["_class_name"]
    family = next(each for each in FAMILIES if name in each.classes)
    if family in LACKING:
        pytest.skip(f"{family.name} needs diffusers {family.since}, {diffusers.__version__} is installed")
    return load(settings(kind, folder))


def weights(engine: Any) -> list[torch.Tensor]:
    parts: dict[str, Any] = engine._family.pipeline.components  # pyright: ignore[reportPrivateUsage]
    modules = [part for part in parts.values() if isinstance(part, torch.nn.Module)]
    return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]


def check_place(engine: Any) -> list[weakref.ref[torch.Tensor]]:
    """All weights are on the GPU, those of the denoiser in the type that a GPU is fast in; references to them."""
    tensors = weights(engine)
    assert {tensor.device.type for tensor in tensors} == {DEVICE}
    if DEVICE == "cuda":
        assert torch.bfloat16 in {tensor.dtype for tensor in tensors}
    return [weakref.ref(tensor) for tensor in tensors]


def check_pixels(pixels: Any, shape: tuple[int, ...]) -> None:
    assert pixels.shape == shape
    assert pixels.dtype == np.uint8
    assert pixels.min() < pixels.max(), "one flat color"


def wait_freed(references: list[weakref.ref[torch.Tensor]]) -> None:
    """The thread of an engine lets go of its last work a moment after that is answered."""
    deadline = time.monotonic() + 20
    while any(reference() is not None for reference in references):
        assert time.monotonic() < deadline, "a closed engine keeps its weights"
        gc.collect()
        time.sleep(0.01)


@pytest.mark.parametrize("name", IMAGES)
async def test_a_family_of_images(name: str, tmp_path: Path) -> None:
    expected = IMAGES[name]
    engine = load_checkpoint(ImageSettings, expected, tmp_path)
    references = check_place(engine)
    edits = [png(color) for color in ("navy", "olive", "maroon")[: expected.input_images]]
    requests: list[dict[str, Any]] = [] if name in EDIT_ALONE else [{"partial_images": 1}]
    if "edit" in expected.can:
        requests.append({"input_images": tuple(edits), "partial_images": 1})
    if "mask" in expected.can:
        requests.append({"input_images": (edits[0],), "mask": png("white")})
    if "negative_prompt" in expected.can:
        requests.append({"input_images": tuple(edits) if name in EDIT_ALONE else (), "negative_prompt": "rain"})
        requests[-1] |= {"guidance_scale": 4.0}
    for request in requests:
        steps: list[Any] = []
        output = await engine.generate(ImageTask(id="i", **(TASK | request)), steps.append)
        check_pixels(output.pixels[0], SHAPE)
        for step in steps:
            if step.preview is not None:
                check_pixels(step.preview, SHAPE)
    await engine.check_health()
    engine.close()
    del engine
    wait_freed(references)


@pytest.mark.parametrize("name", VIDEOS)
async def test_a_family_of_videos(name: str, tmp_path: Path) -> None:
    expected = VIDEOS[name]
    engine = load_checkpoint(VideoSettings, expected, tmp_path)
    references = check_place(engine)
    least, most = FROM_IMAGE_ALONE.get(name, 0), 1 + ("last_frame" in expected.can)
    for count in range(least, (most if "image_to_video" in expected.can else 0) + 1):
        first, last = [*(png("navy"), png("olive"))[:count], None, None][:2]
        task = VideoTask(id="v", num_frames=6, fps=8, **TASK)
        output = await engine.generate(task, first, lambda _: None, last_frame=last)
        check_pixels(output.frames, (6, *SHAPE))
    await engine.check_health()
    engine.close()
    del engine
    wait_freed(references)


@pytest.mark.parametrize("family", LACKING, ids=lambda family: family.name)
def test_a_family_of_a_later_diffusers_names_it(family: type[Family], tmp_path: Path) -> None:
    kinds = {ImageFamily: ImageSettings, VideoFamily: VideoSettings, TextFamily: TextSettings}
    kind = next(kind for base, kind in kinds.items() if issubclass(family, base))
    for name in family.classes:
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
        (tmp_path / "config.json").write_text(json.dumps({"architectures": [name]}))
        with pytest.raises(ValueError, match=rf"needs diffusers {family.since} or later; {diffusers.__version__} is"):
            load(settings(kind, tmp_path))
