"""A cluster of four nodes, as cluster/kuberay describes it: who runs where, and what the loss of a node costs.

Real Ray nodes with networks, processes and files of their own, a real Redis for the head's state, a real S3 for the
media. The config is rendered from cluster/kuberay with the demo models. The tests share the cluster and run in the
order in which they stand: a node lost in one is back in the next.
"""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serve_app.cli import main
from tests.cluster.nodes import HOST, Lan, Node
from tests.probing import probe
from tests.s3_server import S3Server, wait_for_port
from tests.serve.app_process import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
BASE = ROOT / "cluster" / "kuberay" / "base"
PLACE = Path("/mnt")
"""Where each node sees its own files."""
HEAD = "10.77.0.10"
ADDRESSES = {"ingress": "10.77.0.11", "text": "10.77.0.12", "video-1": "10.77.0.13", "video-2": "10.77.0.14"}
DEPLOYMENTS = ("ingress", "sweeper", "text", "image", "video")
VIDEO_NODES = {"video-1", "video-2"}
START_S = 300.0
"""Deadlines are generous: the whole cluster shares two cores, perhaps with others."""
ANSWER_S = 240.0
TOKEN, PASSWORD, API_KEY = "f" * 64, "redis-password", "sk-alice"
IMAGE_ENV = {
    "RAY_worker_niceness": "0",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY": "1",
}
"""What cluster/Dockerfile sets."""
LOST_SOON = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "3000"}
"""A node that is silent counts as lost after 20 s; by Ray's defaults after 65."""
CHAT = {"model": "demo/llada2-tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
IMAGE = {"model": "demo/flux-tiny", "prompt": "a fox", "size": "64x64", "nvext": {"num_inference_steps": 1}}
VIDEO = {"model": "demo/wan-tiny", "prompt": "a river", "size": "64x64", "nvext": {"num_frames": 5}}
LONG_VIDEO: dict[str, Any] = {**VIDEO, "size": "256x256", "nvext": {"num_frames": 17, "num_inference_steps": 12}}


class Cluster:
    """The four nodes and what a caller and an operator ask of them."""

    def __init__(self, lan: Lan, folder: Path, env: dict[str, str]) -> None:
        rayservice = yaml.safe_load((BASE / "rayservice.yaml").read_text())["spec"]["rayClusterConfig"]
        groups = {group["groupName"]: group for group in rayservice["workerGroupSpecs"]}
        head_env = LOST_SOON | {"RAY_REDIS_ADDRESS": f"{HOST}:6379", "RAY_external_storage_namespace": "four-nodes"}
        options = ["--head", "--port=6379", f"--redis-password={PASSWORD}", "--include-dashboard=true"]
        options += [f"--{name}={value}" for name, value in rayservice["headGroupSpec"]["rayStartParams"].items()]
        self.head = Node(lan, HEAD, folder / "head", PLACE, env | head_env, options)
        self.workers = {
            name: Node(lan, address, folder / name, PLACE, env, joining(groups[name.split("-")[0]]))
            for name, address in ADDRESSES.items()
        }
        self.config: dict[str, Any] = {}
        self._client = httpx.Client(headers={"Authorization": f"Bearer {API_KEY}"}, timeout=ANSWER_S)

    def start(self) -> None:
        self.head.start()
        for node in self.workers.values():
            node.start()
        wait_until(self.is_whole, START_S, "five nodes in the cluster")

    def close(self) -> None:
        self._client.close()
        for node in (*self.workers.values(), self.head):
            node.kill()

    def deploy(self, config: dict[str, Any]) -> None:
        """As the operator of KubeRay does."""
        self.config = config
        self._dashboard("PUT", "/api/serve/applications/", json=config)

    def is_whole(self) -> bool:
        for node in (self.head, *self.workers.values()):
            node.restart_if_ended()
        return len(self.nodes()) == 5

    def nodes(self) -> set[str]:
        """The addresses of the nodes that live."""
        try:
            answer = self._dashboard("GET", "/api/v0/nodes")
        except httpx.HTTPError:
            return set()
        return {node["node_ip"] for node in answer["data"]["result"]["result"] if node["state"] == "ALIVE"}

    def places(self, deployment: str) -> list[str]:
        """The names of the nodes on which a deployment's replicas run."""
        replicas = self.application()["deployments"].get(deployment, {}).get("replicas", [])
        names = {address: name for name, address in ADDRESSES.items()}
        addresses: list[str] = [each["node_ip"] for each in replicas if each["state"] == "RUNNING"]
        return sorted(names.get(address, address) for address in addresses)

    def application(self) -> dict[str, Any]:
        """How the operator sees it."""
        try:
            return self._dashboard("GET", "/api/serve/applications/")["applications"]["diffusion"]
        except (httpx.HTTPError, KeyError) as error:
            return {"status": f"not known: {error!r}", "deployments": {}}

    def answers(self, node: str, path: str = "/health") -> bool:
        try:
            return self._client.get(self.url(node, path), timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def url(self, node: str, path: str) -> str:
        return f"http://{ADDRESSES.get(node, HEAD)}:8000{path}"

    def ask(self, method: str, path: str, node: str = "ingress", **options: Any) -> Any:
        answer = self._client.request(method, self.url(node, path), **options)
        assert answer.status_code == 200, f"{method} {path} at {node}: {answer.status_code} {answer.text}"
        return answer.json()

    def send(self, body: dict[str, Any]) -> str:
        return self.ask("POST", "/v1/videos", json=body, headers={"Prefer": "respond-async"})["id"]

    def job(self, job_id: str) -> dict[str, Any]:
        return self.ask("GET", f"/v1/videos/{job_id}")

    def content(self, job_id: str) -> bytes:
        """The video itself, fetched from S3, to which the ingress sends its callers."""
        answer = self._client.get(self.url("ingress", f"/v1/videos/{job_id}/content"))
        return httpx.get(answer.headers["location"], timeout=ANSWER_S).raise_for_status().content

    def _dashboard(self, method: str, path: str, **options: Any) -> Any:
        url, headers = f"http://{HEAD}:8265{path}", {"Authorization": f"Bearer {TOKEN}"}
        answer = self._client.request(method, url, headers=headers, **options).raise_for_status()
        return answer.json() if answer.content else None


class Traffic:
    """Asks for texts, pictures, jobs and readiness again and again at the ingress node, and keeps what went wrong."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._over = threading.Event()
        self._rounds = 0
        self.failures: list[str] = []

    @contextmanager
    def running(self) -> Generator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def another_round(self) -> None:
        """Returns when everything was asked and answered once more, and begun after the call."""
        target = self._rounds + 2
        wait_until(lambda: self._rounds >= target, ANSWER_S, "answers to all requests")

    def _run(self) -> None:
        while not self._over.is_set():
            for method, path, body in (
                ("POST", "/v1/chat/completions", CHAT),
                ("POST", "/v1/images/generations", IMAGE),
                ("GET", "/v1/videos", None),
                ("GET", "/ready", None),
            ):
                try:
                    self._cluster.ask(method, path, json=body)
                except (httpx.HTTPError, AssertionError) as error:
                    self.failures.append(f"{method} {path}: {error!r}")
            self._rounds += 1


def joining(group: dict[str, Any]) -> list[str]:
    """The arguments with which KubeRay has a pod of this group join."""
    labels = ",".join(f"{key}={value}" for key, value in group["labels"].items())
    options = [f"--{name}={value}" for name, value in group["rayStartParams"].items()]
    return [f"--address={HEAD}:6379", f"--labels={labels}", "--num-cpus=1", *options]


def wait_for_job(cluster: Cluster, job_id: str, status: str) -> None:
    seen: dict[str, Any] = {}

    def reached() -> bool:
        seen.update(cluster.job(job_id))
        assert seen["status"] in (status, "queued", "in_progress"), seen
        return seen["status"] == status

    try:
        wait_until(reached, ANSWER_S, f"{job_id} {status}")
    except AssertionError as error:
        raise AssertionError(f"{error}; last seen: {seen}; replicas: {cluster.places('video')}") from error


@pytest.fixture(scope="module")
def lan() -> Lan:
    others = subprocess.run(["ip", "-o", "link", "show", "up"], check=True, capture_output=True, text=True).stdout
    if any(": lo:" not in line for line in others.splitlines()):
        pytest.fail(f"this needs a network of its own, which `make test-cluster` makes; here are\n{others}")
    return Lan()


@pytest.fixture(scope="module")
def redis(lan: Lan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if shutil.which("redis-server") is None:
        pytest.fail("redis-server is missing: apt-get install redis-server")
    folder = tmp_path_factory.mktemp("redis")
    command = ["redis-server", "--bind", HOST, "--port", "6379", "--requirepass", PASSWORD, "--appendonly", "yes"]
    with (folder / "log").open("wb") as log, subprocess.Popen([*command, "--dir", str(folder)], stdout=log) as process:
        wait_for_port(6379, process, host=HOST)
        yield
        process.kill()


@pytest.fixture(scope="module")
def s3(lan: Lan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"), host=HOST)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cluster(lan: Lan, redis: None, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("nodes")
    rendered = folder / "serve-config.yaml"
    sources = [ROOT / "deployments.yaml", BASE / "settings.yaml", Path(__file__).with_name("four-nodes.yaml")]
    assert main(["render", *map(str, sources), "--output", str(rendered)]) == 0
    secrets = {"DIFFUSION_SERVE_API_KEYS": f"alice:{API_KEY}", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    ours = {"PYTHONPATH": str(ROOT), "RAY_gcs_rpc_server_reconnect_timeout_s": "600"}
    cluster = Cluster(lan, folder, {**os.environ, **s3.env, **IMAGE_ENV, **secrets, **ours})
    try:
        cluster.start()
        cluster.deploy(yaml.safe_load(rendered.read_text()))
        wait_until(lambda: cluster.answers("ingress", "/ready"), START_S, "the application ready")
        yield cluster
    finally:
        cluster.close()


def test_each_deployment_lands_on_its_group(cluster: Cluster) -> None:
    assert {name: cluster.places(name) for name in DEPLOYMENTS} == {
        "ingress": ["ingress"],
        "sweeper": ["ingress"],
        "text": ["text"],
        "image": [],
        "video": [],
    }


def test_a_deployment_at_zero_wakes_on_its_group(cluster: Cluster) -> None:
    cluster.ask("POST", "/v1/images/generations", json=IMAGE)
    assert cluster.places("image") == ["text"]


def test_the_job_of_a_lost_node_is_done_on_the_other(cluster: Cluster) -> None:
    job_id = cluster.send(LONG_VIDEO)
    wait_for_job(cluster, job_id, "in_progress")
    [place] = cluster.places("video")
    assert place in VIDEO_NODES
    cluster.workers[place].kill()
    wait_for_job(cluster, job_id, "completed")
    [other] = cluster.places("video")
    assert {place, other} == VIDEO_NODES
    assert probe(cluster.content(job_id)).frames == LONG_VIDEO["nvext"]["num_frames"]
    cluster.workers[place].start()
    wait_until(cluster.is_whole, START_S, "the node back")


def test_the_proxy_of_every_node_answers(cluster: Cluster) -> None:
    jobs = [cluster.send(LONG_VIDEO) for _ in range(24)]  # more than one replica does until another could start
    wait_until(lambda: set(cluster.places("video")) == VIDEO_NODES, START_S, "a replica on each video node")
    for node in ("head", *ADDRESSES):
        wait_until(lambda node=node: cluster.answers(node), START_S, f"the proxy of {node}")
        cluster.ask("POST", "/v1/chat/completions", node, json=CHAT)
        cluster.ask("GET", f"/v1/videos/{jobs[0]}", node)
    for job_id in jobs:
        cluster.ask("DELETE", f"/v1/videos/{job_id}")


def test_the_head_is_lost_and_comes_back(cluster: Cluster) -> None:
    before = {name: cluster.places(name) for name in DEPLOYMENTS}
    jobs = {job["id"] for job in cluster.ask("GET", "/v1/videos")["data"]}
    traffic = Traffic(cluster)
    with traffic.running():
        running = cluster.send(LONG_VIDEO)
        wait_for_job(cluster, running, "in_progress")
        cluster.head.kill()
        traffic.another_round()
        meanwhile = cluster.send(VIDEO)
        traffic.another_round()
        for job_id in (running, meanwhile):
            wait_for_job(cluster, job_id, "completed")
        cluster.head.start()
        wait_until(cluster.is_whole, START_S, "the head back")
        wait_until(lambda: cluster.application()["status"] == "RUNNING", START_S, "the application back")
        traffic.another_round()
        assert {name: cluster.places(name) for name in DEPLOYMENTS} == before
        wait_until(lambda: cluster.answers("head"), START_S, "the head's proxy")
    assert traffic.failures == []
    assert {job["id"] for job in cluster.ask("GET", "/v1/videos")["data"]} == jobs | {running, meanwhile}
    for job_id in jobs | {running, meanwhile}:
        wait_for_job(cluster, job_id, "completed")
    cluster.ask("GET", f"/v1/videos/{cluster.send(VIDEO)}")


def test_a_folder_for_the_media_is_refused(cluster: Cluster) -> None:
    config = copy.deepcopy(cluster.config)
    config["applications"][0]["args"]["media"]["root"] = "file:///mnt/media"
    cluster.deploy(config)
    wait_until(lambda: cluster.application()["status"] == "DEPLOY_FAILED", START_S, "the refusal")
    assert "media.root is the folder file:///mnt/media, and the cluster has 4 nodes" in cluster.application()["message"]
    cluster.ask("POST", "/v1/chat/completions", json=CHAT)  # what was served is served on
