"""Command-line options to a deployments file: each of Dynamo's names does what it does there."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from serve_app.cli import main
from serve_app.model_settings import ImageSettings, TextSettings, VideoSettings
from serve_app.server import address
from serve_app.settings import Settings, resolve
from serve_app.up import add_arguments, deployments_file


def asked(*arguments: str, **environ: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return deployments_file(parser.parse_args(arguments), environ)


def settings(*arguments: str, **environ: str) -> Settings:
    return resolve(Settings.model_validate(asked(*arguments, **environ)["applications"][0]["args"]), "gpu")


def test_nothing_asked_serves_all_three_on_loopback() -> None:
    assert list(settings().served) == ["text", "image", "video"]
    assert asked()["http_options"] == {"host": "127.0.0.1", "port": 8000}


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        (["--dllm-algorithm", "LowConfidence"], ["text"]),
        (["--image-diffusion-worker"], ["image"]),
        (["--video-generation-worker"], ["video"]),
        (["--image-diffusion-worker", "--video-generation-worker"], ["image", "video"]),
    ],
)
def test_a_worker_flag_serves_that_kind_only(arguments: list[str], kinds: list[str]) -> None:
    assert list(settings(*arguments).served) == kinds


def test_text_options(tmp_path: Path) -> None:
    parameters = tmp_path / "joint.yaml"
    parameters.write_text("threshold: 0.5\nmax_post_edit_steps: 8\n")
    text = settings(
        "--dllm-algorithm", "JointThreshold", "--dllm-algorithm-config", str(parameters), "--model-path", "/m/llada",
        "--served-model-name", "llada", "--tp-size", "2",
    ).served["text"]  # fmt: skip
    assert isinstance(text, TextSettings)
    assert (text.algorithm, text.algorithm_config) == ("JointThreshold", {"threshold": 0.5, "max_post_edit_steps": 8})
    assert (text.model, text.id, text.gpus, text.parallel) == ("/m/llada", "llada", 2, "tensor")


def test_text_from_the_environment(tmp_path: Path) -> None:
    parameters = tmp_path / "low.yaml"
    parameters.write_text("threshold: 0.9\n")
    text = settings(DLLM_ALGORITHM="LowConfidence", DLLM_ALGORITHM_CONFIG=str(parameters), TP_SIZE="4").served["text"]
    assert isinstance(text, TextSettings)
    assert (text.algorithm, text.algorithm_config, text.gpus) == ("LowConfidence", {"threshold": 0.9}, 4)
    assert settings("--tp", "1", TP_SIZE="4").served["text"].gpus == 1


@pytest.mark.parametrize(
    ("fs_url", "http_url"), [("--fs-url", "--http-url"), ("--media-output-fs-url", "--media-output-http-url")]
)
def test_media_options(fs_url: str, http_url: str) -> None:
    media = settings(fs_url, "s3://bucket/media", http_url, "https://cdn.example.com").media
    assert (media.root, media.public_url) == ("s3://bucket/media", "https://cdn.example.com")


def test_image_and_video_defaults() -> None:
    chosen = settings(
        "--image-diffusion-worker", "--video-generation-worker", "--width", "640", "--height", "384",
        "--num-inference-steps", "20", "--num-frames", "33",
    )  # fmt: skip
    image, video = chosen.served["image"], chosen.served["video"]
    assert isinstance(image, ImageSettings)
    assert isinstance(video, VideoSettings)
    assert (image.defaults.width, image.defaults.height) == (640, 384)
    assert (video.defaults.num_inference_steps, video.defaults.num_frames) == (20, 33)


@pytest.mark.parametrize(("size", "name", "gpus"), [("1b", "1.3B", 1), ("14b", "14B", 2)])
def test_wan_sizes(size: str, name: str, gpus: int) -> None:
    asked_for = asked("--video-generation-worker", "--wan-size", size)["applications"][0]["args"]
    assert asked_for["profile"] == "gpu"
    video = settings("--video-generation-worker", "--wan-size", size).served["video"]
    assert (video.model, video.gpus) == (f"Wan-AI/Wan2.1-T2V-{name}-Diffusers", gpus)


def test_port_from_option_then_environment() -> None:
    assert asked("--http-port", "9000", HTTP_PORT="8001")["http_options"]["port"] == 9000
    assert asked(HTTP_PORT="8001")["http_options"]["port"] == 8001
    assert asked(HTTP_PORT="8001", DYN_HTTP_PORT="8002")["http_options"]["port"] == 8002


def test_options_are_laid_over_a_file(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(
        "http_options: {port: 8123}\n"
        "applications: [{name: mine, import_path: 'serve_app.app:build', args: {models: {image: {max_queued: 7}}}}]\n"
    )
    mine = asked("--config", str(config), "--image-diffusion-worker", "--width", "128")
    assert mine["http_options"] == {"port": 8123}
    assert mine["applications"][0]["args"]["models"]["image"] == {"max_queued": 7, "defaults": {"width": 128}}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["text", "image", "second"]),
        (["--width", "128"], ["text", "image", "second"]),
        (["--image-diffusion-worker"], ["image"]),
        (["--video-generation-worker"], ["video"]),
    ],
)
def test_models_of_a_file_are_kept_unless_kinds_are_named(options: list[str], names: list[str], tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    models = "{video: null, second: {kind: image, model: m}}"
    config.write_text(f"applications: [{{import_path: 'serve_app.app:build', args: {{models: {models}}}}}]\n")
    assert list(settings("--config", str(config), *options).served) == names


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (["--model-path", "m"], {}, "exactly one kind"),
        (["--image-diffusion-worker", "--video-generation-worker", "--served-model-name", "m"], {}, "exactly one kind"),
        (["--dllm-algorithm-config", "/nowhere.yaml"], {}, "nowhere"),
        ([], {"HTTP_PORT": "eighty"}, "HTTP_PORT is not a number"),
    ],
)
def test_contradictions_are_named(arguments: list[str], environ: dict[str, str], message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        asked(*arguments, **environ)


def test_parameters_that_are_no_mapping_are_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = tmp_path / "list.yaml"
    parameters.write_text("- threshold")
    assert main(["up", "--print", "--dllm-algorithm", "a", "--dllm-algorithm-config", str(parameters)]) == 1
    assert "models.text.algorithm_config: input should be a valid dictionary" in capsys.readouterr().err


def test_print_shows_a_file_that_check_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--print", "--video-generation-worker", "--wan-size", "14b"]) == 0
    printed = tmp_path / "deployments.yaml"
    printed.write_text(capsys.readouterr().out)
    assert main(["check", str(printed)]) == 0


def test_a_key_given_twice_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = tmp_path / "twice.yaml"
    twice.write_text(
        "http_options: {port: 8000}\napplications: [{import_path: serve_app.app:build}]\nhttp_options: {port: 9000}\n"
    )
    assert main(["up", "--config", str(twice), "--print"]) == 1
    assert "http_options: given twice (line" in capsys.readouterr().err


def test_impossible_options_are_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--print", "--image-diffusion-worker", "--width", "-1"]) == 1
    assert "width" in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "a: ["])
def test_a_file_that_cannot_be_read_is_one_line(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "deployments.yaml"
    if text is not None:
        file.write_text(text)
    assert main(["up", "--config", str(file)]) == 1
    assert capsys.readouterr().err.startswith("diffusion-serve up: ")


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_one_line(
    host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["up", "--http-host", host]) == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(f"diffusion-serve up: this machine cannot listen at {host}, port 8000 (http_options): ")
    )


def test_who_has_a_port_in_quotes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = tmp_path / "deployments.yaml"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        http = f"{{host: 127.0.0.1, port: '{listener.getsockname()[1]}'}}"
        config.write_text(f"http_options: {http}\napplications: [{{import_path: 'serve_app.app:build'}}]\n")
        assert main(["up", "--config", str(config)]) == 1
    assert f"is taken by process {os.getpid()} (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("http", "prefix", "expected"),
    [
        ({}, "/", "http://localhost:8000/"),
        ({"host": "0.0.0.0", "port": 9000}, "/", "http://localhost:9000/"),
        ({"host": "10.0.0.7"}, "/diffusion", "http://10.0.0.7:8000/diffusion/"),
    ],
)
def test_it_says_where_a_browser_finds_the_page(http: dict[str, Any], prefix: str, expected: str) -> None:
    assert address({"http_options": http, "applications": [{"route_prefix": prefix}]}) == expected


def test_trust_and_revision_are_one_models() -> None:
    text = settings("--dllm-algorithm", "LowConfidence", "--model-path", "a/b", "--revision", "v2").served["text"]
    assert (text.revision, text.trust_remote_code) == ("v2", False)
    text = settings("--dllm-algorithm", "LowConfidence", "--model-path", "a/b", "--trust-remote-code").served["text"]
    assert text.trust_remote_code
    with pytest.raises(ValueError, match="need exactly one kind"):
        asked("--trust-remote-code")
