"""Unmodified clients against a really served app: OpenAI's for Python and Node, LiteLLM, and Dynamo's curl lines."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from PIL import Image

from tests.probing import probe
from tests.serve.conftest import Served

HERE = Path(__file__).parent
NODE_PACKAGES = ("openai@6.49.0", "openai@7.59.0")
VERCEL_PACKAGES = ("ai@6.0.326", "@ai-sdk/openai@3.0.141")


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.base_url}/v1", api_key="none") as one:
        yield one


# --- OpenAI's client for Python -------------------------------------------------------------------------------------


def test_openai_chat_streams(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Hello! How are you?"}]
    whole = client.chat.completions.create(model="demo/llada2-tiny", messages=messages, max_tokens=64)
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage is not None
    assert 0 < whole.usage.completion_tokens < 64
    chunks = list(
        client.chat.completions.create(
            model="demo/llada2-tiny",
            messages=messages,
            max_tokens=64,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_openai_images(client: openai.OpenAI) -> None:
    made = client.images.generate(
        model="demo/flux-tiny",
        prompt="A sunset",
        size="64x64",
        n=2,
        response_format="b64_json",  # type: ignore[call-overload]
    )
    pictures = [Image.open(io.BytesIO(base64.b64decode(each.b64_json or ""))) for each in made.data or ()]
    assert [picture.size for picture in pictures] == [(64, 64), (64, 64)]


def test_openai_videos(client: openai.OpenAI) -> None:
    size: Any = "64x64"
    seconds: Any = "1"
    video = client.videos.create_and_poll(model="demo/wan-tiny", prompt="A raccoon", size=size, seconds=seconds)
    assert (video.status, video.progress, video.seconds, video.error) == ("completed", 100, "1", None)
    assert video.completed_at is not None
    assert video.expires_at is not None
    content = client.videos.download_content(video.id).read()
    info = probe(content)
    assert (info.frames, info.fps, info.width, info.height) == (8, 8, 64, 64)
    thumbnail = client.videos.download_content(video.id, variant="thumbnail").read()
    assert Image.open(io.BytesIO(thumbnail)).size == (64, 64)

    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    uploaded = client.videos.create(
        prompt="It moves", size=size, seconds=seconds, input_reference=("first.png", buffer.getvalue(), "image/png")
    )
    data_url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    # as extra_body: openai 2.54 itself fails on the object that its type for input_reference allows
    by_url = client.videos.create(
        prompt="It moves", size=size, seconds=seconds, extra_body={"input_reference": {"image_url": data_url}}
    )
    remix = client.videos.remix(video.id, prompt="A tired raccoon")
    assert remix.remixed_from_video_id == video.id
    assert [each.id for each in client.videos.list(limit=1)][:3] == [remix.id, by_url.id, uploaded.id]
    for each in (uploaded, by_url, remix):
        assert client.videos.poll(each.id).status == "completed"
    for each in (video, uploaded, by_url, remix):
        assert client.videos.delete(each.id).deleted
    with pytest.raises(openai.NotFoundError) as gone:
        client.videos.retrieve(video.id)
    assert gone.value.code == "video_not_found"


def test_openai_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="demo/wan-tiny") as refused:
        client.videos.create(prompt="p", model="sora-2")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="demo/llada2-tiny", messages=[{"role": "user", "content": "a"}], n=0)
    assert refused.value.param == "n"


# --- OpenAI's client for Node ---------------------------------------------------------------------------------------


def run_node(request: pytest.FixtureRequest, packages: tuple[str, ...], script: str, served: Served) -> Any:
    """What a script prints, run beside packages from npm, which are kept in pytest's cache."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node is missing: its client cannot be tried")
    assert request.config.cache is not None
    folder = request.config.cache.mkdir(packages[0].replace("@", "-"))
    if not (folder / "node_modules").exists():
        command = [
            "npm",
            "install",
            "--no-audit",
            "--no-fund",
            "--fetch-retries",
            "1",
            "--prefix",
            str(folder),
            *packages,
        ]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
    (folder / script).write_bytes((HERE / script).read_bytes())  # a module finds its packages beside itself
    command = ["node", str(folder / script), f"{served.base_url}/v1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("package", NODE_PACKAGES)
def test_node(served: Served, request: pytest.FixtureRequest, package: str) -> None:
    gave = run_node(request, (package,), "client.mjs", served)
    # 64 tokens in blocks of 32, which are counted from the beginning of the prompt
    assert (gave["blocks"], gave["finish"]) == (3, "length")
    assert Image.open(io.BytesIO(base64.b64decode(gave["image"]))).size == (64, 64)
    assert (gave["video"]["status"], gave["video"]["seconds"]) == ("completed", "1")
    assert probe(base64.b64decode(gave["content"])).frames == 8
    assert gave["remix"]["remixed_from_video_id"] == gave["video"]["id"]
    assert gave["listed"][:3] == [gave["remix"]["id"], gave["animated"]["id"], gave["video"]["id"]]
    assert gave["deleted"] == {"id": gave["video"]["id"], "deleted": True, "object": "video.deleted"}
    assert gave["error"] == {"status": 404, "code": "video_not_found", "name": "NotFoundError"}


def test_vercels_sdk(served: Served, request: pytest.FixtureRequest) -> None:
    gave = run_node(request, VERCEL_PACKAGES, "client_vercel.mjs", served)
    assert Image.open(io.BytesIO(base64.b64decode(gave["image"]))).size == (64, 64)
    assert 0 < gave["tokens"] <= 32
    assert gave["finish"] == "stop"


# --- LiteLLM --------------------------------------------------------------------------------------------------------


def test_litellm(served: Served) -> None:
    # its price list would come from the network
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [sys.executable, str(HERE / "client_litellm.py"), f"{served.base_url}/v1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=env)
    assert ran.returncode == 0, ran.stderr
    gave = json.loads(ran.stdout.splitlines()[-1])
    assert Image.open(io.BytesIO(httpx.get(gave["image"]).content)).size == (64, 64)
    assert (gave["status"], gave["seconds"], gave["size"]) == ("completed", "1", "64x64")
    assert probe(base64.b64decode(gave["content"])).frames == 8


# --- Dynamo's page --------------------------------------------------------------------------------------------------

# https://docs.nvidia.com/dynamo: "Diffusion", its three tests, byte for byte
CHAT = """\
curl -X POST http://localhost:8001/v1/chat/completions \\
 -H "Content-Type: application/json" \\
 -d '{
 "model": "inclusionAI/LLaDA2.0-mini-preview",
 "messages": [{"role": "user", "content": "Hello! How are you?"}],
 "temperature": 0.7,
 "max_tokens": 512
 }'
"""
IMAGE = """\
curl http://localhost:8000/v1/images/generations \\
 -H "Content-Type: application/json" \\
 -d '{
 "model": "black-forest-labs/FLUX.1-dev",
 "prompt": "A sunset over the ocean",
 "size": "1024x1024",
 "response_format": "url",
 "nvext": {
 "num_inference_steps": 15
 }
 }'
"""
VIDEO = """\
curl http://localhost:8000/v1/videos \\
 -H "Content-Type: application/json" \\
 -d '{
 "prompt": "A curious raccoon exploring a garden",
 "model": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
 "seconds": 2,
 "size": "832x480",
 "response_format": "url",
 "nvext": {
 "fps": 8,
 "num_frames": 17,
 "num_inference_steps": 50
 }
 }'
"""


def run_line(line: str, served: Served, **changes: tuple[str, str]) -> Any:
    """Runs a line of the page in a shell, with host and port changed, and what else is named."""
    for address in ("localhost:8000", "localhost:8001"):
        line = line.replace(address, urlsplit(served.base_url).netloc)
    for before, after in changes.values():
        assert before in line
        line = line.replace(before, after)
    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=240, check=True)
    return json.loads(ran.stdout)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: Dynamo's lines cannot be tried")
class TestDynamosLines:
    def test_chat(self, served: Served) -> None:
        gave = run_line(CHAT, served, model=("inclusionAI/LLaDA2.0-mini-preview", "demo/llada2-tiny"))
        assert gave["choices"][0]["finish_reason"] == "stop"
        assert gave["choices"][0]["message"]["content"].endswith("you?")  # as the question was

    def test_image(self, served: Served) -> None:
        model, size = ("black-forest-labs/FLUX.1-dev", "demo/flux-tiny"), ("1024x1024", "256x192")
        gave = run_line(IMAGE, served, model=model, size=size)
        picture = Image.open(io.BytesIO(httpx.get(gave["data"][0]["url"]).content))
        assert (picture.size, gave["nvext"]["num_inference_steps"]) == ((256, 192), 15)

    def test_video(self, served: Served) -> None:
        model, size = ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "demo/wan-tiny"), ("832x480", "128x96")
        gave = run_line(VIDEO, served, model=model, size=size)
        assert (gave["object"], gave["status"], gave["progress"]) == ("video", "completed", 100)
        assert gave["inference_time_s"] > 0
        info = probe(httpx.get(gave["data"][0]["url"]).content)
        assert (info.frames, info.fps, info.width, info.height) == (17, 8, 128, 96)
