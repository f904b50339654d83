"""What images and videos are asked for over HTTP, and the same of the bare engine."""

from __future__ import annotations

import base64
from typing import Any

import httpx

from benchmarks.gpu.bare import Bare
from benchmarks.gpu.lane import FLUX
from benchmarks.gpu.measure import Body, post

PATHS = {"image": "/v1/images/generations", "video": "/v1/videos"}


def image_body(side: int, steps: int, *, seed: int = 7, **more: Any) -> Body:
    nvext = {"num_inference_steps": steps, "seed": seed}
    size = f"{side}x{side}"
    return {"model": FLUX, "prompt": "A sunset over the ocean", "size": size, "nvext": nvext, **more}


def bare_image(side: int, steps: int) -> Body:
    shape = {"prompt": "A sunset over the ocean", "width": side, "height": side, "num_inference_steps": steps}
    return shape | {"guidance_scale": 3.5, "seed": 7}


def draw_image(client: httpx.Client, body: Body) -> bytes:
    return base64.b64decode(
        post(client, PATHS["image"], body | {"response_format": "b64_json"})[1]["data"][0]["b64_json"]
    )


def video_body(model: str, shape: tuple[int, int, int], steps: int, **more: Any) -> Body:
    width, height, frames = shape
    nvext = {"fps": 8, "num_frames": frames, "num_inference_steps": steps, "seed": 7}
    prompt = "A curious raccoon exploring a garden"
    return {"model": model, "prompt": prompt, "size": f"{width}x{height}", "nvext": nvext, **more}


def make_video(client: httpx.Client, body: Body) -> float:
    seconds, answer = post(client, PATHS["video"], body | {"response_format": "url"})
    if answer["status"] != "completed":
        raise RuntimeError(f"the video is {answer}")
    return seconds


def bare_video(bare: Bare, shape: tuple[int, int, int], steps: int) -> float:
    width, height, frames = shape
    asked = {"prompt": "A curious raccoon exploring a garden", "width": width, "height": height, "num_frames": frames}
    return bare.run(asked | {"fps": 8, "num_inference_steps": steps, "guidance_scale": 5.0, "seed": 7})["seconds"]
