"""The command `diffusion-serve` as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.cli import main

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "deployments.yaml"


def test_check_says_in_one_line_what_would_be_served(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(SHIPPED)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.startswith(f"{SHIPPED}: application 'diffusion' on 127.0.0.1:8000/: profile demo: text ")
    assert shown.out.count("\n") == 1


def test_check_fails_with_the_path_of_each_wrong_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "wrong.yaml"
    shipped = SHIPPED.read_text()
    wrong.write_text(shipped.replace("profile: auto", "profil: auto").replace("proxy_location: ", "proxy_loction: "))
    assert main(["check", str(wrong)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "proxy_loction: unknown key; did you mean 'proxy_location'?",
        "applications[0].args.profil: unknown key; did you mean 'profile'?",
    ]


@pytest.mark.parametrize("arguments", [[], ["serve"], ["check"], ["check", "a", "b"]])
def test_wrong_arguments_end_with_2_and_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: diffusion-serve" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["check", "usage", "render", "settings", "up"])
def test_every_subcommand_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: diffusion-serve {name}")


def test_it_is_installed_as_a_command() -> None:
    program = str(Path(sys.executable).parent / "diffusion-serve")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "deployments file" in done.stdout
