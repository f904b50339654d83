"""`diffusion-serve check` finds what is known to fail on this machine before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve_app.check import check_config
from serve_app.cli import main


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
        ({"home": "/proc/home", "media": {"root": "file:///tmp"}}, "args.home: /proc/home cannot be written"),
    ],
)
def test_what_is_missing(args: dict[str, Any], expected: str, tmp_path: Path) -> None:
    found = problems({"home": str(tmp_path), **args})
    assert len(found) == 1, found
    assert expected in found[0]
    assert problems({"home": str(tmp_path), **args}, here=False) == []


@pytest.mark.parametrize("http", [{}, {"http_options": {"host": "0.0.0.0"}}])
def test_an_open_server_without_keys_deserves_a_warning(http: dict[str, Any]) -> None:
    def warnings(args: dict[str, Any]) -> list[str]:
        report = check_config({**http, "applications": [{"import_path": "serve_app.app:build", "args": args}]})
        assert report.ok
        return [str(problem) for problem in report.problems]

    [warning] = warnings({})
    assert warning.startswith("warning: applications[0].args.access: no API keys, while http_options.host 0.0.0.0")
    assert warnings({"access": {"keys_env": "KEYS"}}) == []


def test_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_app.media import videos

    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    videos._program.cache_clear()  # pyright: ignore[reportPrivateUsage]
    found = problems({"home": str(tmp_path)})
    videos._program.cache_clear()  # pyright: ignore[reportPrivateUsage]
    assert len(found) == 1, found
    assert "args.models.video: ffmpeg cannot be run" in found[0]
    assert problems({"home": str(tmp_path), "models": {"video": None}}) == []


def test_a_file_for_another_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deployments.yaml"
    path.write_text(
        "applications: [{import_path: serve_app.app:build, args: "
        "{models: {image: {model: /nowhere/flux}}, profile: demo}}]"
    )
    assert main(["check", str(path)]) == 1
    assert "'/nowhere/flux' does not exist" in capsys.readouterr().err
    assert main(["check", str(path), "--elsewhere"]) == 0
