"""The README keeps its word: its `sh` and Python blocks run as printed and give what its text says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.interruptible import interruptible
from tests.probing import probe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SERVER = "http://localhost:8000"
SERVE = "make serve"
START_S = 900.0  # a first start installs the lock file

SH_BLOCKS: list[str] = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
PYTHON_BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
REQUESTS = [block for block in SH_BLOCKS if not block.startswith("make ")]


def block(holding: str) -> str:
    """The one block that holds this text."""
    [found] = [block for block in SH_BLOCKS if holding in block]
    return found


def bash(script: str) -> str:
    """What the block prints; it must succeed."""
    done = subprocess.run(["bash", "-e", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{script}\nended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def belonging(marker: str) -> list[int]:
    """The processes whose environment holds `marker`: the server's descendants, Ray's daemons among them."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue  # gone meanwhile, or another user's
    return [pid for pid in found if pid != os.getpid()]


def end(server: subprocess.Popen[bytes], marker: str) -> None:
    """Ends the server as Ctrl-C does, then whatever is left of it."""
    os.killpg(server.pid, signal.SIGINT)
    try:
        server.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    deadline = time.monotonic() + 20
    while belonging(marker) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in belonging(marker):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def server(demo_home: Path) -> Iterator[None]:
    """The server that the README's own block starts, in a Ray of its own; the README names port 8000."""
    with socket.socket() as probe_socket:
        probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe_socket.bind(("127.0.0.1", 8000))
        except OSError:
            pytest.fail("port 8000, which the README names, is taken by another process: stop it and run this again")
    ray_folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    # RAY_ADDRESS=local: a Ray cluster that already runs on this machine is not this test's
    ours = {"RAY_TMPDIR": ray_folder, "RAY_ADDRESS": "local", "DIFFUSION_SERVE_HOME": str(demo_home)}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            interruptible("bash", "-e", "-c", block(SERVE)),
            cwd=ROOT,
            env={**os.environ, **ours},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_ready(process)
            yield
        except TimeoutError:
            log.seek(0)
            pytest.fail(f"`make serve` did not become ready:\n{log.read().decode(errors='replace')[-8000:]}")
        finally:
            end(process, f"RAY_TMPDIR={ray_folder}")
            shutil.rmtree(ray_folder, ignore_errors=True)


def wait_ready(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{SERVER}/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise TimeoutError


def answer(holding: str) -> dict[str, Any]:
    return json.loads(bash(block(holding)))


def test_every_block_has_a_test() -> None:
    tested = ("/ready", "/v1/chat/completions", "/v1/images/generations", "/v1/videos ", "diffusion-serve check")
    assert {block(SERVE), block("make test"), *(block(part) for part in tested)} == set(SH_BLOCKS)
    assert len(PYTHON_BLOCKS) == 1


def test_links_lead_somewhere() -> None:
    targets = [target.partition("#") for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert targets
    assert [path for path, _, _ in targets if not (ROOT / path).exists()] == []
    sections = [(ROOT / path, section) for path, _, section in targets if section]
    assert [section for path, section in sections if f"\n## {section}\n" not in path.read_text().lower()] == []


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 150


def test_the_configuration_passes_the_check() -> None:
    assert "application 'diffusion' on 127.0.0.1:8000/" in bash(block("diffusion-serve check"))


@pytest.mark.slow
@pytest.mark.timeout(START_S + 60)
@pytest.mark.usefixtures("server")
class TestServed:
    def test_ready(self) -> None:
        bash(block("/ready"))

    def test_text(self) -> None:
        text = answer("/v1/chat/completions")
        [choice] = text["choices"]
        assert choice["message"]["content"].endswith("you?")  # it asks back
        assert choice["finish_reason"] == "stop"
        assert text["nvext"]["denoising_steps"] > 0

    def test_image(self) -> None:
        [datum] = answer("/v1/images/generations")["data"]
        picture = Image.open(BytesIO(httpx.get(datum["url"]).raise_for_status().content))
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (256, 256))

    def test_the_seed_in_the_answer_gives_the_same_picture(self) -> None:
        first = answer("/v1/images/generations")
        [seed] = first["nvext"]["seeds"]
        script = block("/v1/images/generations").replace('"nvext": {', f'"nvext": {{"seed": {seed},')
        again = json.loads(bash(script))
        urls = [first["data"][0]["url"], again["data"][0]["url"]]
        one, other = [httpx.get(url).raise_for_status().content for url in urls]
        assert one == other

    def test_video(self) -> None:
        video = answer("/v1/videos ")
        [datum] = video["data"]
        found = probe(httpx.get(datum["url"]).raise_for_status().content)
        assert video["status"] == "completed"
        assert (found.frames, found.fps, found.width, found.height) == (17, 8, 256, 256)

    def test_openai_client(self) -> None:
        [script] = PYTHON_BLOCKS
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        assert f"{SERVER}/v1/media/" in done.stdout
        assert probe(Path("/tmp/raccoon.mp4")).frames > 0

    def test_the_page(self) -> None:
        page = httpx.get(SERVER)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")

    def test_docs(self) -> None:
        assert httpx.get(f"{SERVER}/docs").status_code == 200
        assert httpx.get(f"{SERVER}/openapi.json").json()["openapi"].startswith("3.1")
