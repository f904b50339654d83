"""What files say of their making: enough to make them again, and nothing that differs between two runs."""

from __future__ import annotations

from dataclasses import replace

from serve_app.deployments import provenance
from tests.deployments.test_image import make_task as make_image_task
from tests.jobs.conftest import make_task as make_video_task


def test_an_image_tells_its_parameters() -> None:
    task = make_image_task(negative_prompt="rain")
    assert provenance.of_image(task, seed=8, steps=2, guidance_scale=3.5) == {
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
    facts = [provenance.of_image(each, seed=8, steps=2, guidance_scale=3.5) for each in (task, again)]
    assert facts[0] == facts[1]
    video = make_video_task()
    again_video = replace(make_video_task(), caller="alice", submitted_at=99.0)
    assert provenance.of_video(video, image=None) == provenance.of_video(again_video, image=None)


def test_an_edit_tells_what_it_began_with() -> None:
    one = provenance.of_image(make_image_task(input_image=b"a"), seed=8, steps=2, guidance_scale=3.5)
    other = provenance.of_image(make_image_task(input_image=b"b"), seed=8, steps=2, guidance_scale=3.5)
    assert one["input_sha256"] != other["input_sha256"]
    assert one["strength"] == "0.8"
    assert provenance.of_video(make_video_task(), image=b"a")["input_sha256"] == one["input_sha256"]
