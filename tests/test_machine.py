"""`diffusion-serve check` finds what is known to fail on this machine before anything starts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.check import check_config
from serve_app.cli import main
from serve_app.machine import Machine
from serve_app.settings import Settings, resolve

ONE = {"text": 0.3, "image": 0.3, "video": 0.3}
ONE_GPU: dict[str, Any] = {kind: {"gpus": gpus} for kind, gpus in ONE.items()}
"""All three on one GPU, as in cluster/one-gpu.yaml."""


def problems(args: dict[str, Any], *, here: bool = True) -> list[str]:
    application = {"import_path": "serve_app.app:build", "args": {"profile": "demo", **args}}
    config = {"http_options": {"host": "127.0.0.1"}, "applications": [application]}
    return [str(problem) for problem in check_config(config, here=here).problems]


def test_nothing_is_missing(tmp_path: Path) -> None:
    assert problems({"home": str(tmp_path), "media": {"root": (tmp_path / "a" / "b").as_uri()}}) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            {"models": {"image": {"model": "/nowhere/flux"}}},
            "args.models.image.model: The model folder '/nowhere/flux' does not exist",
        ),
        (
            {"models": {"video": {"engine_args": {"thread": 2}}}},
            "args.models.video.engine_args: engine_args of the diffusers engine: thread",
        ),
        (
            {"models": {"text": {"algorithm": "Greedy"}}},
            "args.models.text.algorithm: text.algorithm 'Greedy': the diffusers engine has",
        ),
        ({"access": {"keys_env": "UNSET_KEYS"}}, "args.access: environment variable UNSET_KEYS: holds no API key"),
        ({"access": {"keys_file": "/nowhere/keys"}}, "No such file or directory: '/nowhere/keys'"),
        ({"media": {"root": "file:///dev/null/media"}}, "args.media.root: /dev/null/media cannot be written"),
        ({"media": {"root": "file:///proc/media"}}, "args.media.root: /proc/media cannot be written"),
    ],
)
def test_what_is_missing(args: dict[str, Any], expected: str, tmp_path: Path) -> None:
    found = problems({"home": str(tmp_path), **args})
    assert len(found) == 1, found
    assert expected in found[0]
    assert problems({"home": str(tmp_path), **args}, here=False) == []


def test_spans_need_the_extra_that_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = {"telemetry": {"otlp_endpoint": "http://127.0.0.1:4318"}}
    assert problems(traced) == []
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp", None)  # as where it is not installed
    [found] = problems(traced)
    assert found.endswith("args.telemetry.otlp_endpoint: needs the extra `otel`, which is not installed")


def test_the_home_of_compilers_is_writable() -> None:
    """SGLang's, that is: the demo models need none."""
    unwritable = {"home": "/proc/home", "media": {"root": "file:///tmp"}}
    found = problems({"profile": "gpu", **unwritable})
    assert any("args.home: /proc/home cannot be written" in problem for problem in found)
    assert problems(unwritable) == []


@pytest.mark.parametrize(
    ("http", "host"),
    [({}, "0.0.0.0"), ({"http_options": {"host": "0.0.0.0"}}, "0.0.0.0"), ({"http_options": {"host": "::"}}, "::")],
)
def test_an_open_server_without_keys_deserves_a_warning(http: dict[str, Any], host: str) -> None:
    def warnings(args: dict[str, Any]) -> list[str]:
        report = check_config({**http, "applications": [{"import_path": "serve_app.app:build", "args": args}]})
        assert report.ok
        return [str(problem) for problem in report.problems]

    [warning] = warnings({})
    assert warning.startswith(f"warning: applications[0].args.access: no API keys, while http_options.host {host} ")
    for keys in ("keys_env", "keys_file"):
        assert warnings({"access": {keys: "KEYS"}}) == []


def test_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    found = problems({"home": str(tmp_path)})
    assert len(found) == 1, found
    assert "args.models.video: ffmpeg cannot be run" in found[0]
    assert problems({"home": str(tmp_path), "models": {"video": None}}) == []


@pytest.mark.parametrize(
    ("machine", "models", "expected"),
    [
        (Machine(gpus=1, has_sglang=True), ONE_GPU, []),
        (Machine(gpus=3, has_sglang=True), {}, []),
        (
            Machine(gpus=1, has_sglang=True),
            {},
            [
                "models: the first replicas need 3 GPUs together (text 1, image 1, video 1), and this machine has 1",
            ],
        ),
        (
            Machine(gpus=0, has_sglang=True),
            ONE_GPU,
            [f"models.{kind}.gpus: a replica needs {gpus} GPU, and this machine has 0" for kind, gpus in ONE.items()],
        ),
        (
            Machine(gpus=1, has_sglang=False),
            {**ONE_GPU, "text": None, "video": None},
            ["models.image.engine: sglang is not installed on this machine (make setup PROFILE=gpu)"],
        ),
        # asleep at first, and so in nobody's way
        (Machine(gpus=1, has_sglang=True), {"text": None, "video": {"replicas": {"min": 0}}}, []),
        # asleep at first, and too large all the same
        (
            Machine(gpus=1, has_sglang=True),
            {**ONE_GPU, "large": {"kind": "video", "model": "a/b", "gpus": 2, "replicas": {"min": 0}}},
            ["models.large.gpus: a replica needs 2 GPU, and this machine has 1"],
        ),
    ],
)
def test_gpus_and_sglang(machine: Machine, models: dict[str, Any], expected: list[str]) -> None:
    settings = resolve(Settings.model_validate({"profile": "gpu", "models": models}), "gpu")
    assert [": ".join(finding) for finding in machine.find_missing(settings)] == expected


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (Machine(gpus=0, has_sglang=False), "demo"),
        (Machine(gpus=1, has_sglang=False), "demo"),
        (Machine(gpus=0, has_sglang=True), "demo"),
        (Machine(gpus=1, has_sglang=True), "gpu"),
    ],
)
def test_auto_asks_for_nothing_that_is_not_here(machine: Machine, expected: str) -> None:
    assert machine.choose_profile("auto") == expected
    assert machine.choose_profile("gpu") == "gpu"


@pytest.fixture
def for_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that asks for GPUs; this machine has none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    path = tmp_path / "cluster.yaml"
    args = {"profile": "gpu", "home": str(tmp_path), "media": {"root": tmp_path.as_uri()}, "models": {"video": None}}
    application = {"name": "diffusion", "import_path": "serve_app.app:build", "args": args}
    path.write_text(yaml.safe_dump({"http_options": {"host": "127.0.0.1"}, "applications": [application]}))
    return path


def test_a_file_for_a_cluster_is_checked_on_a_laptop(for_a_cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(for_a_cluster)]) == 0
    shown = capsys.readouterr()
    assert "profile gpu: text inclusionAI/LLaDA2.0-mini-preview on 1 GPU" in shown.out
    warning = "warning: applications[0].args.models.text.gpus: a replica needs 1 GPU, and this machine has 0"
    assert warning in shown.err.splitlines()
    assert main(["check", str(for_a_cluster), "--elsewhere"]) == 0
    assert capsys.readouterr().err == ""


def test_up_starts_nothing_that_cannot_run_here(for_a_cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--config", str(for_a_cluster)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    said = shown.err.splitlines()
    assert "warning: applications[0].args.models.image.gpus: a replica needs 1 GPU, and this machine has 0" in said
    assert said[-1] == "diffusion-serve up: this machine lacks what the warnings name; nothing was started"
    assert main(["up", "--config", str(for_a_cluster), "--print"]) == 0


def test_a_file_for_another_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deployments.yaml"
    path.write_text(
        "applications: [{import_path: serve_app.app:build, args: "
        "{models: {image: {model: /nowhere/flux}}, profile: demo}}]"
    )
    assert main(["check", str(path)]) == 1
    assert "'/nowhere/flux' does not exist" in capsys.readouterr().err
    assert main(["check", str(path), "--elsewhere"]) == 0
