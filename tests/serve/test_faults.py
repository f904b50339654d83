"""What was acknowledged is never lost: real processes are killed, a real S3 server stops, a real disk is full.

The tests share one app and one S3 server and run in the order in which they stand; the last ones look at all that they
left. Only the full disk has an app of its own, whose media lie in a small tmpfs.
"""

from __future__ import annotations

import errno
import io
import json
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.probing import probe
from tests.s3_server import S3Server
from tests.serve.app_process import AppProcess, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TINY = {"model": "demo/wan-tiny", "prompt": "a river"}
FRAMES = 5
LONG: dict[str, Any] = {"size": "128x128", "num_inference_steps": 100, "num_frames": 33}
"""A job that takes seconds: what comes after it waits."""
ROOT = "faults"
JOBS = {"heartbeat_s": 0.5, "stale_s": 5, "sweep_s": 0.5}
END_S = 180.0


def make_args(demo_home: Path, root: str) -> dict[str, Any]:
    return {
        "profile": "demo",
        "home": str(demo_home),
        "media": {"root": root},
        "models": {
            "text": None,
            "image": None,
            "video": {
                "warm_up_sizes": [[64, 64, FRAMES]],
                "max_queued": 200,
                "defaults": {"width": 64, "height": 64, "num_frames": FRAMES, "num_inference_steps": 1},
            },
        },
        "jobs": JOBS,
    }


class Client:
    """Sends jobs and remembers the ids of those that were acknowledged, and how far each was seen to be."""

    def __init__(self, app: AppProcess) -> None:
        self.app = app
        self.acknowledged: list[str] = []
        self.progress: dict[str, int] = {}

    def send(self, number: int, size: str = "64x64", **changes: Any) -> list[str]:
        """The ids of the jobs that were acknowledged; each seed is another. `changes` go into `nvext`."""
        first = len(self.acknowledged)
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(
                    lambda seed: self._post({"size": size, "nvext": {"seed": seed, **changes}}),
                    range(first, first + number),
                )
            )
        ids = [job_id for job_id in answers if job_id is not None]
        self.acknowledged += ids
        return ids

    def _post(self, body: dict[str, Any]) -> str | None:
        # `nvext` would make it synchronous: the header says that it is a job
        headers = {"Prefer": "respond-async"}
        try:
            answer = httpx.post(f"{self.app.base_url}/v1/videos", json=TINY | body, headers=headers, timeout=60)
        except httpx.TransportError:
            return None
        if answer.status_code != 200:
            assert answer.status_code in (500, 503), answer.text
            assert answer.json()["error"]["message"]
            return None
        return answer.json()["id"]

    def job(self, job_id: str) -> dict[str, Any] | None:
        """None where the server does not answer now. A job that is not there fails the test."""
        try:
            answer = httpx.get(f"{self.app.base_url}/v1/videos/{job_id}", timeout=60)
        except httpx.TransportError:
            return None
        if answer.status_code in (500, 502, 503):
            return None
        assert answer.status_code == 200, f"{job_id} is lost: {answer.text}"
        job: dict[str, Any] = answer.json()
        assert job["progress"] >= self.progress.get(job_id, 0), f"the progress of {job_id} fell"
        self.progress[job_id] = job["progress"]
        return job

    def finished(self, ids: list[str]) -> None:
        """Returns when every job has ended, and fails where one ended otherwise than completed."""
        left = list(ids)

        def all_ended() -> bool:
            for job_id in list(left):
                job = self.job(job_id)
                if job is None or job["status"] not in ("completed", "failed"):
                    return False
                assert job["status"] == "completed", job["error"]
                left.remove(job_id)
            return True

        wait_until(all_ended, END_S, f"{len(ids)} jobs ended")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server of our own: it is stopped on purpose."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def store(s3: S3Server) -> Path:
    """Where the objects lie on disk, as the S3 server keeps them."""
    return s3.folder / s3.bucket / ROOT


@pytest.fixture(scope="module")
def client(s3: S3Server, demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    log = tmp_path_factory.mktemp("app") / "log"
    app = AppProcess(make_args(demo_home, f"s3://{s3.bucket}/{ROOT}"), log, env=s3.env)
    try:
        app.start()
        yield Client(app)
    finally:
        app.close()


def test_kill_the_ingress_with_twenty_jobs_queued(client: Client, store: Path) -> None:
    ids = client.send(2, **LONG) + client.send(28, num_inference_steps=2)
    listed = httpx.get(f"{client.app.base_url}/v1/videos?limit=100", timeout=60).json()["data"]
    client.app.kill_replica("ingress")
    assert sum(job["status"] == "queued" for job in listed) >= 20
    assert len(ids) == 30
    client.finished(ids)
    # to have waited was no try, whoever they waited with
    tries = [len(list((store / "jobs/public" / job_id / "attempts").iterdir())) for job_id in ids]
    assert sum(number == 1 for number in tries) >= 27, tries


def test_kill_the_video_replica_in_the_middle_of_a_job(client: Client) -> None:
    [long] = client.send(1, **LONG)
    ids = client.send(14)
    wait_until(lambda: _eventually(client, long)["progress"] > 0, 240, "progress")
    client.app.kill_replica("video")
    at_death = _eventually(client, long)
    assert 0 < at_death["progress"] < 100
    client.finished([long, *ids])


def test_kill_the_whole_app_and_start_it_again(client: Client) -> None:
    ids = client.send(25, num_inference_steps=4)
    assert len(ids) == 25
    client.app.kill()
    client.app.start()
    client.finished(ids)


def test_stop_the_store_for_ten_seconds_in_the_middle_of_uploads(client: Client, s3: S3Server) -> None:
    ids = client.send(30, num_inference_steps=4)
    wait_until(lambda: _eventually(client, ids[2])["status"] == "completed", 240, "the third job")
    s3.stop()
    began = time.monotonic()
    assert client.send(1) == [], "a job was acknowledged that cannot have been stored"
    assert client.app.answers("/health")
    time.sleep(max(0.0, began + 10 - time.monotonic()))
    s3.start()
    client.finished(ids)


def test_nothing_was_lost_and_nothing_is_half(client: Client, store: Path) -> None:
    assert len(client.acknowledged) >= 100
    client.finished(client.acknowledged)
    names = {path.name for path in check_objects(store)}
    assert {f"{job_id}-0.mp4" for job_id in client.acknowledged} <= names
    for job_id in client.acknowledged[4::20]:
        content = httpx.get(f"{client.app.base_url}/v1/videos/{job_id}/content", follow_redirects=True, timeout=60)
        assert probe(content.content).frames == FRAMES


def test_a_shutdown_loses_no_row_of_the_ledger(client: Client, store: Path) -> None:
    ids = client.send(5)
    client.finished(ids)
    client.app.stop()
    rows = [row for path in store.rglob("*.parquet") for row in pq.ParquetFile(path).read().to_pylist()]
    assert {row["id"] for row in rows if row["outcome"] == "completed"} >= set(ids)
    command = [
        Path(sys.executable).parent / "diffusion-serve",
        "usage",
        "--json",
        "--media-root",
        f"s3://bucket/{ROOT}",
    ]
    printed = subprocess.run(command, env=client.app.env, capture_output=True, text=True, check=True).stdout
    days = [json.loads(line) for line in printed.splitlines()]
    assert sum(day["generations"] for day in days) == len(rows)
    assert {day["model"] for day in days} == {"demo/wan-tiny"}


def test_a_full_disk(demo_home: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    wrapper = _with_small_disk(disk)
    app = AppProcess(make_args(demo_home, disk.as_uri()), tmp_path / "log", env={}, wrapper=wrapper)
    try:
        app.start()
        assert app.process is not None
        # its own mount, seen from outside
        seen = Path(f"/proc/{app.process.pid}/root{disk}")
        client = Client(app)
        before = client.send(8, num_inference_steps=20)
        assert len(before) == 8
        ballast = seen / "ballast"
        _fill(ballast)
        assert client.send(3) == [], "a job was acknowledged that cannot have been stored"
        assert app.answers("/health")
        time.sleep(3)
        ballast.unlink()
        client.finished(before)
        after = client.send(4)
        assert len(after) == 4
        client.finished(after)
        names = {path.name for path in check_objects(seen)}
        assert {f"{job_id}-0.mp4" for job_id in client.acknowledged} <= names
    finally:
        app.close()


def check_objects(root: Path) -> list[Path]:
    """Every object below `root`, each of which is whole."""
    paths = [path for path in root.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(root))]
    for path in paths:
        data = path.read_bytes()
        if path.suffix == ".json":
            json.loads(data)
        elif path.suffix in (".webp", ".jpeg"):
            Image.open(io.BytesIO(data)).load()
        elif path.suffix == ".mp4":
            assert _is_whole_mp4(data), path
    return paths


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_whole_mp4(data: bytes) -> bool:
    """Whether the boxes of the file end where it ends, and the index and the frames are among them."""
    names: set[bytes] = set()
    position = 0
    while position + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[position : position + 8])
        names.add(name)
        position += max(size, 8)
    return position == len(data) and {b"ftyp", b"moov", b"mdat"} <= names


def _eventually(client: Client, job_id: str) -> dict[str, Any]:
    """The job, as soon as the server answers."""
    found: list[dict[str, Any]] = []

    def answered() -> bool:
        if (job := client.job(job_id)) is not None:
            found.append(job)
        return bool(found)

    wait_until(answered, 120, f"an answer about {job_id}")
    return found[0]


def _with_small_disk(folder: Path) -> tuple[str, ...]:
    """A command prefix that mounts 24 MiB on `folder`, for the command alone."""
    mount = f'mount -t tmpfs -o size=24m tmpfs "{folder}" && exec "$@"'
    wrapper = ("unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh")
    if shutil.which("unshare") is None or subprocess.run([*wrapper, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets us mount no tmpfs of our own")
    return wrapper


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 that it is raised is what ends the loop
