"""What every family of videos keeps, each on a small random checkpoint of its real classes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from diffusers import LTXConditionPipeline, WanImageToVideoPipeline
from PIL import Image

from serve_app.engines.base import VideoEngine, VideoOutput
from serve_app.engines.diffusers.families.base import VideoFamily
from serve_app.engines.load import load
from serve_app.errors import InvalidRequest, UnsupportedParameter
from serve_app.model_settings import VideoSettings
from serve_app.tasks import VideoTask
from tests.engines.diffusers.families.checkpoints import checkpoints_of
from tests.engines.diffusers.families.parts import Checkpoint
from tests.engines.diffusers.families.pausing import cancel_in_a_step

# schedulers of diffusers hand torch tensors to numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
CHECKPOINTS = checkpoints_of(VideoFamily)
FROM_IMAGE_ALONE = ("wan-i2v", "wan-flf2v", "wan-a14b")


@dataclass(frozen=True)
class Loaded:
    name: str
    engine: VideoEngine
    expected: Checkpoint

    @property
    def images(self) -> list[bytes]:
        """As few images as it makes a video of."""
        return [png("navy"), png("olive")][: FROM_IMAGE_ALONE.count(self.name) + (self.name == "wan-flf2v")]

    async def make(self, images: list[bytes] | None = None, **changes: Any) -> VideoOutput:
        return await self.start(images, lambda _: None, **changes)

    def start(self, images: list[bytes] | None, on_step: Any, **changes: Any) -> Any:
        values: dict[str, Any] = {
            "id": "v",
            "model": "tiny",
            "prompt": "a red cat",
            "width": 70,
            "height": 50,
            "num_frames": 6,
            "fps": 8,
            "seed": 7,
            "num_inference_steps": 1,
        }
        first, last = [*(self.images if images is None else images), None, None][:2]
        return self.engine.generate(VideoTask(**(values | changes)), first, on_step, last_frame=last)


@pytest.fixture(scope="module", params=CHECKPOINTS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    expected = CHECKPOINTS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    expected.make(folder)
    engine = load(VideoSettings(model=str(folder), served_name="tiny"))
    yield Loaded(request.param, engine, expected)
    engine.close()


def png(color: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), color).save(file, "PNG")
    return file.getvalue()


async def test_the_card_says_what_it_can(loaded: Loaded) -> None:
    assert loaded.engine.card.capabilities == loaded.expected.can | {"progress", "cancel"}
    assert loaded.engine.card.parameters == loaded.expected.parameters


async def test_a_seed_decides_the_video_of_the_asked_size(loaded: Loaded) -> None:
    made, again, other = [await loaded.make(seed=seed) for seed in (7, 7, 8)]
    assert made.frames is not None
    assert made.frames.shape == (6, 50, 70, 3)
    assert np.array_equal(made.frames, again.frames)  # pyright: ignore[reportArgumentType]
    assert not np.array_equal(made.frames, other.frames)  # pyright: ignore[reportArgumentType]
    assert (made.num_inference_steps, made.guidance_scale) == (1, loaded.expected.guidance_scale)


async def test_a_cancel_ends_within_a_step_of_the_family_s_own_number(loaded: Loaded) -> None:
    steps, calls = await cancel_in_a_step(lambda on_step: loaded.start(None, on_step, num_inference_steps=None))
    assert steps[0].total == loaded.expected.num_inference_steps
    assert calls <= 4


@pytest.mark.parametrize(("capability", "images"), [("image_to_video", 1), ("last_frame", 2)])
async def test_frames_that_it_takes_change_the_video(loaded: Loaded, capability: str, images: int) -> None:
    if capability not in loaded.expected.can:
        with pytest.raises(UnsupportedParameter) as caught:
            await loaded.make([png("navy")] * images)
        assert caught.value.param in ("input_reference", "last_frame")
        return
    if images < len(loaded.images):
        with pytest.raises(InvalidRequest) as refused:
            await loaded.make([png("navy")] * images)
        assert refused.value.param == "last_frame"
        return
    before = [png("navy")] * (images - 1)
    made, other = [await loaded.make([*before, png(color)], num_inference_steps=2) for color in ("maroon", "white")]
    assert not np.array_equal(made.frames, other.frames)  # pyright: ignore[reportArgumentType]


async def test_the_first_frame_comes_first(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights make no film in which it could be seen: what diffusers is asked for tells."""
    if "last_frame" not in loaded.expected.can:
        pytest.skip("takes no last frame")
    asked: list[dict[str, Any]] = []
    for pipeline in (LTXConditionPipeline, WanImageToVideoPipeline):
        monkeypatch.setattr(pipeline, "__call__", noting(pipeline.__call__, asked))
    await loaded.make([png("navy"), png("white")])
    (arguments,) = asked
    places = {each.frame_index: each.image for each in arguments.get("conditions", ())}
    frames = [places[place] for place in sorted(places)] or [arguments["image"], arguments["last_image"]]
    assert [frame.getpixel((9, 9)) for frame in frames] == [(0, 0, 128), (255, 255, 255)]


def noting(run: Any, asked: list[dict[str, Any]]) -> Any:
    def note(pipeline: Any, **arguments: Any) -> Any:
        asked.append(arguments)
        return run(pipeline, **arguments)

    return note


async def test_one_without_an_image_where_it_needs_one_is_refused(loaded: Loaded) -> None:
    if not loaded.images:
        pytest.skip("makes videos from text too")
    with pytest.raises(InvalidRequest) as caught:
        await loaded.make([])
    assert caught.value.param == "input_reference"


async def test_its_parameters_change_the_video(loaded: Loaded) -> None:
    made = await loaded.make(num_inference_steps=2)
    for name in loaded.expected.parameters:
        other = await loaded.make(num_inference_steps=2, parameters={name: 9.0})
        assert not np.array_equal(made.frames, other.frames)  # pyright: ignore[reportArgumentType]
    again = await loaded.make(num_inference_steps=2)
    assert np.array_equal(made.frames, again.frames), "a request's parameters are gone with it"  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnsupportedParameter, match="has no true_cfg_scale"):
        await loaded.make(parameters={"true_cfg_scale": 4.0})
