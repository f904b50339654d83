"""What every family of images keeps, each on a small random checkpoint of its real classes."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serve_app.engines.base import ImageEngine, ImageOutput, Step
from serve_app.engines.diffusers.families.base import ImageFamily
from serve_app.engines.load import load
from serve_app.errors import InvalidRequest, UnsupportedParameter
from serve_app.model_settings import ImageSettings
from serve_app.tasks import ImageTask
from tests.engines.diffusers.families.checkpoints import checkpoints_of
from tests.engines.diffusers.families.parts import Checkpoint
from tests.engines.diffusers.families.pausing import cancel_in_a_step

# schedulers of diffusers hand torch tensors to numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
CHECKPOINTS = checkpoints_of(ImageFamily)


@dataclass(frozen=True)
class Loaded:
    engine: ImageEngine
    expected: Checkpoint
    needs_image: bool

    @property
    def edits(self) -> bool:
        return "edit" in self.expected.can

    def task(self, **changes: Any) -> ImageTask:
        values: dict[str, Any] = {
            "id": "i",
            "model": "tiny",
            "prompt": "a red cat",
            "width": 70,
            "height": 50,
            "seed": 7,
            "num_inference_steps": 1,
            "guidance_scale": 1.0,
            "input_images": (png("navy"),) if self.needs_image else (),
        }
        return ImageTask(**(values | changes))

    async def draw(self, **changes: Any) -> ImageOutput:
        return await self.engine.generate(self.task(**changes), lambda _: None)


@pytest.fixture(scope="module", params=CHECKPOINTS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    expected = CHECKPOINTS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    expected.make(folder)
    engine = load(ImageSettings(model=str(folder), served_name="tiny"))
    yield Loaded(engine, expected, needs_image=request.param.startswith("qwen-image-edit"))
    engine.close()


def png(color: str) -> bytes:
    """White, with one half in a color."""
    picture = Image.new("RGB", (64, 48), "white")
    picture.paste(color, (0, 0, 32, 48))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


async def test_the_card_says_what_it_can(loaded: Loaded) -> None:
    card, expected = loaded.engine.card, loaded.expected
    assert card.capabilities == expected.can | {"previews", "progress", "cancel"}
    strength = {"strength"} if "mask" in expected.can else set[str]()
    assert card.input_images == (expected.input_images if loaded.edits else 0)
    assert card.parameters == expected.parameters | strength
    assert "torchvision" not in sys.modules


async def test_a_seed_decides_the_picture_of_the_asked_size(loaded: Loaded) -> None:
    steps: list[Step] = []
    drawn = await loaded.engine.generate(loaded.task(n=2, partial_images=1), steps.append)
    assert [picture.shape for picture in drawn.pixels] == [(50, 70, 3)] * 2
    assert [(step.step, step.total) for step in steps] == [(1, 2), (2, 2)]
    assert [step.preview.shape for step in steps if step.preview is not None] == [(50, 70, 3)]
    assert not np.array_equal(drawn.pixels[0], drawn.pixels[1])
    again = await loaded.draw(seed=8)
    assert np.array_equal(drawn.pixels[1], again.pixels[0])


async def test_a_cancel_ends_within_a_step_of_the_family_s_own_number(loaded: Loaded) -> None:
    steps, calls = await cancel_in_a_step(
        lambda on_step: loaded.engine.generate(loaded.task(num_inference_steps=None), on_step)
    )
    assert steps[0].total == loaded.expected.num_inference_steps
    assert calls <= 4


async def test_guidance_is_the_family_s_own_unless_asked_for(loaded: Loaded) -> None:
    drawn = await loaded.draw(guidance_scale=None, width=32, height=32)
    assert (drawn.guidance_scale, drawn.num_inference_steps) == (loaded.expected.guidance_scale, 1)
    assert (await loaded.draw(guidance_scale=0.0, width=32, height=32)).guidance_scale == 0


async def test_it_edits_as_many_images_as_it_says(loaded: Loaded) -> None:
    if not loaded.edits:
        with pytest.raises(UnsupportedParameter) as caught:
            await loaded.draw(input_images=(png("navy"),))
        assert caught.value.param == "image"
        return
    images = tuple(png(color) for color in ("navy", "olive", "maroon")[: loaded.expected.input_images])
    weak: dict[str, Any] = (
        {"num_inference_steps": 4, "parameters": {"strength": 0.25}} if "mask" in loaded.expected.can else {}
    )
    drawn = await loaded.draw(input_images=images, **weak)
    assert drawn.pixels[0].shape == (50, 70, 3)
    other = await loaded.draw(input_images=(*images[:-1], png("black")), **weak)
    assert not np.array_equal(drawn.pixels[0], other.pixels[0])


async def test_more_images_are_refused(loaded: Loaded) -> None:
    if not loaded.edits:
        pytest.skip("draws from text alone")
    most = loaded.expected.input_images
    with pytest.raises(InvalidRequest, match=f"takes {most}\\.") as caught:
        await loaded.draw(input_images=(png("navy"),) * (most + 1))
    assert caught.value.param == "image"


@pytest.mark.parametrize(
    ("capability", "changes", "param"),
    [
        ("mask", {"input_images": (png("navy"),), "mask": png("white")}, "mask"),
        ("negative_prompt", {"negative_prompt": "rain", "guidance_scale": 4.0}, "nvext.negative_prompt"),
    ],
)
async def test_what_it_cannot_do_is_refused_by_name(
    loaded: Loaded, capability: str, changes: dict[str, Any], param: str
) -> None:
    if not loaded.edits:
        changes = changes | {"input_images": ()}  # else the image is refused before the mask
    if capability in loaded.expected.can:
        assert (await loaded.draw(**changes)).pixels[0].shape == (50, 70, 3)
        return
    with pytest.raises(UnsupportedParameter) as caught:
        await loaded.draw(**changes)
    assert caught.value.param == param


async def test_an_edit_without_an_image_is_refused(loaded: Loaded) -> None:
    if loaded.needs_image:
        with pytest.raises(InvalidRequest, match="edits images: send one") as caught:
            await loaded.draw(input_images=())
        assert caught.value.param == "image"
    else:
        assert (await loaded.draw(input_images=())).pixels[0].shape == (50, 70, 3)


async def test_a_parameter_of_another_family_is_refused(loaded: Loaded) -> None:
    with pytest.raises(UnsupportedParameter, match="has no flow_shift"):
        await loaded.draw(parameters={"flow_shift": 3.0})
