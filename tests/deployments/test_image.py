"""The image deployment over the demo model."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image

from serve_app.deployments.image import ImageDeployment
from serve_app.errors import TimedOut, UnsupportedParameter
from serve_app.storage import open_store
from serve_app.storage.base import ObjectStore
from serve_app.tasks import Adapter, ImagePreview, ImageResult, ImageTask, StepCaching
from tests.deployments.conftest import Configure, ledger_rows


def make_task(**changes: Any) -> ImageTask:
    values: dict[str, Any] = {
        "id": "img_1",
        "model": "demo/flux-tiny",
        "prompt": "a river",
        "width": 72,
        "height": 64,
        "num_inference_steps": 2,
        "guidance_scale": 3.5,
        "seed": 7,
    }
    return ImageTask(**{**values, **changes})


@pytest.fixture
async def image(configure: Configure) -> AsyncIterator[ImageDeployment]:
    deployment = ImageDeployment(configure())
    await deployment.check_health()
    yield deployment
    await deployment.close()


@pytest.fixture
def store(configure: Configure) -> ObjectStore:
    return open_store(configure())


async def files_of(store: ObjectStore, result: ImageResult) -> list[bytes]:
    return [await store.get(each.object.key) for each in result.images if each.object is not None]


async def test_stores_images_with_type_id_and_provenance(configure: Configure, any_media: dict[str, str]) -> None:
    settings = configure(media=any_media)
    deployment, store = ImageDeployment(settings), open_store(settings)
    result = await deployment.generate(make_task(n=2, submitted_at=time.time() - 1))
    await deployment.close()
    assert [each.seed for each in result.images] == [7, 8]
    assert result.timing.queue_s >= 1
    assert min(result.timing.engine_s, result.timing.encode_s, result.timing.storage_s) > 0
    for index, each in enumerate(result.images):
        assert each.object is not None
        day = time.strftime("%Y/%m/%d", time.gmtime())
        assert each.object.key == f"media/public/{day}/img_1-{index}.png"
        info = await store.stat(each.object.key)
        assert info.content_type == "image/png"
    [first, second] = await files_of(store, result)
    picture = Image.open(io.BytesIO(first))
    assert picture.size == (72, 64)
    assert b"a river" in first
    assert first != second


async def test_an_image_is_the_same_alone_and_among_n(image: ImageDeployment, store: ObjectStore) -> None:
    [_, second] = await files_of(store, await image.generate(make_task(n=2)))
    [alone] = await files_of(store, await image.generate(make_task(id="img_2", seed=8)))
    assert alone == second


async def test_without_provenance_nothing_is_told(configure: Configure) -> None:
    deployment = ImageDeployment(configure(media={"provenance": False}))
    result = await deployment.generate(make_task(return_bytes=True))
    await deployment.close()
    assert result.images[0].data is not None
    assert b"river" not in result.images[0].data


async def test_returns_bytes_and_stores_nothing(
    image: ImageDeployment, store: ObjectStore, configure: Configure
) -> None:
    result = await image.generate(make_task(return_bytes=True, output_format="jpeg", output_compression=50))
    data = result.images[0].data
    assert data is not None
    assert Image.open(io.BytesIO(data)).format == "JPEG"
    assert await store.list("media") == []
    await image.close()
    [row] = ledger_rows(configure())
    assert (row["bytes"], row["key"]) == (len(data), None)


async def test_streams_previews_and_then_the_result(image: ImageDeployment) -> None:
    task = make_task(num_inference_steps=8, partial_images=2, output_format="webp", return_bytes=True)
    events = [event async for event in image.stream(task)]
    assert [event.index for event in events if isinstance(event, ImagePreview)] == [0, 1]
    for event in events[:-1]:
        assert isinstance(event, ImagePreview)
        assert event.total == 8
        assert Image.open(io.BytesIO(event.data)).format == "WEBP"
    assert isinstance(events[-1], ImageResult)


async def test_a_reader_that_leaves_frees_the_engine(image: ImageDeployment, configure: Configure) -> None:
    events = image.stream(make_task(num_inference_steps=100, width=256, height=256, partial_images=3))
    async for _ in events:
        break
    await events.aclose()
    await image.close()
    assert [row["outcome"] for row in ledger_rows(configure())] == ["cancelled"], "it had stopped when it was closed"


async def test_the_time_limit_stops_it(configure: Configure) -> None:
    settings = configure(image={"time_limit_s": 0.2})
    deployment = ImageDeployment(settings)
    with pytest.raises(TimedOut):
        await deployment.generate(make_task(num_inference_steps=100, width=512, height=512))
    await deployment.close()
    assert [row["outcome"] for row in ledger_rows(settings)] == ["timeout"]


async def test_the_ledger_says_what_was_made(image: ImageDeployment, configure: Configure) -> None:
    result = await image.generate(make_task(safety_identifier="caller-7"))
    await image.close()
    [row] = ledger_rows(configure())
    assert json.loads(row["parameters"])["safety_identifier"] == "caller-7"
    stored = result.images[0].object
    assert stored is not None
    assert (row["key"], row["bytes"], row["steps"], row["outcome"]) == (stored.key, stored.size, 2, "completed")


async def test_the_ledger_names_adapters_and_presets(image: ImageDeployment, configure: Configure) -> None:
    caching = StepCaching(method="first_block", parameters={"threshold": 0.1})
    await image.generate(make_task(quality="low", step_caching=caching))
    with pytest.raises(UnsupportedParameter, match="pixel-art"):
        await image.generate(make_task(adapters=(Adapter(name="pixel-art", scale=0.5),)))
    await image.close()
    low, refused = [json.loads(row["parameters"]) for row in ledger_rows(configure())]
    assert low["quality"] == "low"
    assert low["step_caching"] == {"method": "first_block", "parameters": {"threshold": 0.1}}
    assert "adapters" not in low
    assert refused["adapters"] == [{"name": "pixel-art", "scale": 0.5}]


async def test_engines_are_not_held_while_encoding(image: ImageDeployment) -> None:
    now = time.time()
    results = await asyncio.gather(*(image.generate(make_task(id=f"img_{n}", submitted_at=now)) for n in range(3)))
    last = max(results, key=lambda result: result.timing.queue_s)
    others = [result for result in results if result is not last]
    engine_s = sum(result.timing.engine_s for result in others)
    # what the last one waited for is the engine time of the others, with little on top
    assert last.timing.queue_s < engine_s + 0.5
