"""What files say of their making: enough to make them again, and nothing that differs between two runs."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import pytest
from PIL import Image

from serve_app.deployments import provenance
from serve_app.deployments.image import ImageDeployment
from serve_app.deployments.video import VideoDeployment
from serve_app.engines.base import ImageOutput
from serve_app.storage import open_store
from serve_app.tasks import Adapter, StepCaching
from tests.deployments.conftest import Configure, open_jobs
from tests.deployments.test_image import make_task as make_image_task
from tests.jobs.conftest import make_task as make_video_task

OUTPUT = ImageOutput(pixels=[], seeds=[], num_inference_steps=2, guidance_scale=3.5)


def test_adapters_and_step_caching_are_told_with_the_model_that_they_belong_to() -> None:
    caching = StepCaching(method="first_block", parameters={"threshold": 0.1})
    adapters = (Adapter(name="pixel-art", scale=0.9), Adapter(name="sketch", scale=-1.0))
    task = make_image_task(model="pixel-art", adapters=adapters, step_caching=caching, precision="exact")
    told = provenance.of_image(task, replace(OUTPUT, step_caching=caching), model="demo/flux-tiny", seed=8)
    assert told["model"] == "demo/flux-tiny"
    assert told["adapters"] == "pixel-art=0.9, sketch=-1"
    assert (told["step_caching"], told["precision"]) == ("first_block threshold=0.1", "exact")
    assert "step_caching" not in provenance.of_image(task, OUTPUT, model="demo/flux-tiny", seed=8)
    video = replace(make_video_task(), adapters=adapters, step_caching=caching)
    assert (
        told.items()
        >= {
            name: value
            for name, value in provenance.of_video(video, None, None, model="wan").items()
            if name in ("adapters", "step_caching")
        }.items()
    )


def test_an_image_tells_its_parameters() -> None:
    task = make_image_task(negative_prompt="rain")
    assert provenance.of_image(task, OUTPUT, model="demo/flux-tiny", seed=8) == {
        "software": "diffusion-serve",
        "model": "demo/flux-tiny",
        "prompt": "a river",
        "negative_prompt": "rain",
        "seed": "8",
        "steps": "2",
        "guidance_scale": "3.5",
        "size": "72x64",
    }


def test_two_runs_of_one_request_tell_the_same() -> None:
    task = make_image_task(n=1)
    again = replace(task, id="img_2", n=4, caller="alice", submitted_at=99.0, traceparent="00-ff")
    facts = [provenance.of_image(each, OUTPUT, model="flux", seed=8) for each in (task, again)]
    assert facts[0] == facts[1]
    video = make_video_task()
    again_video = replace(make_video_task(), caller="alice", submitted_at=99.0)
    assert provenance.of_video(video, None, None, model="wan") == provenance.of_video(
        again_video, None, None, model="wan"
    )


def test_an_edit_tells_what_it_began_with() -> None:
    task = make_image_task(input_images=(b"a",), parameters={"strength": 0.5})
    one = provenance.of_image(task, OUTPUT, model="flux", seed=8)
    other = provenance.of_image(make_image_task(input_images=(b"b",)), OUTPUT, model="flux", seed=8)
    assert one["input_sha256"] != other["input_sha256"]
    assert one["strength"] == "0.5"
    assert provenance.of_video(make_video_task(), b"a", b"b", model="wan")["input_sha256"] == one["input_sha256"]


def told(data: bytes) -> str:
    """What an image file says, wherever its format keeps that."""
    with Image.open(io.BytesIO(data)) as image:
        texts = [str(value) for value in image.info.values()] + [str(value) for value in image.getexif().values()]
    return "\n".join(texts)


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
async def test_a_seed_gives_the_same_image_file_again(configure: Configure, output_format: str) -> None:
    files: list[bytes] = []
    # each from a replica of its own, as after a restart, and at another time
    for number, provenance_on in enumerate((True, True, False)):
        deployment = ImageDeployment(configure(media={"provenance": provenance_on}))
        task = make_image_task(
            id=f"img_{number}", output_format=output_format, return_bytes=True, submitted_at=time.time()
        )
        [image] = (await deployment.generate(task)).images
        await deployment.close()
        assert image.data is not None
        files.append(image.data)
    assert files[0] == files[1]
    assert all(fact in told(files[0]) for fact in ("a river", "demo/flux-tiny", "72x64"))
    assert "img_" not in told(files[0])
    assert told(files[2]).find("a river") == -1
    assert files[2] != files[0]


async def test_a_seed_gives_the_same_video_file_again(configure: Configure) -> None:
    files: list[bytes] = []
    for provenance_on in (True, True, False):
        settings = configure(media={"provenance": provenance_on})
        jobs, deployment = open_jobs(settings), VideoDeployment(settings)
        job = await jobs.create(make_video_task(submitted_at=time.time()), dispatcher="d1")
        await deployment.run("public", job.id)
        await deployment.close()
        result = (await jobs.get("public", job.id)).result
        assert result is not None
        files.append(await open_store(settings).get(result.video.key))
        assert job.id.encode() not in files[-1]
    assert files[0] == files[1] != files[2]
    assert b'"prompt":"a river"' in files[0]
    assert b'"seed":"7"' in files[0]
    assert b"a river" not in files[2]
