"""The command `diffusion-serve` as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that cannot be used, in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text("a: [1")
    Path("binary.yaml").write_bytes(b"\xff\xfe")
    Path("list.yaml").write_text("[1]")
    Path("wrong.yaml").write_text("applications: [{args: {media: {root: 5}}}]")
    return tmp_path


UNFIT = {
    "absent.yaml": "cannot read absent.yaml: No such file",
    "binary.yaml": "binary.yaml is not YAML",
    "broken.yaml": "broken.yaml is not YAML",
    ".": "cannot read .: Is a directory",
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("file", "words"), UNFIT.items())
@pytest.mark.parametrize(
    "command", ["check", "usage", "render", "up --config", "up --dllm-algorithm LowConfidence --dllm-algorithm-config"]
)
def test_a_file_that_cannot_be_read_is_named(
    command: str, file: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), file]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert words in shown.err.splitlines()[0]


@pytest.mark.usefixtures("folder", "s3_server")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("usage list.yaml", "list.yaml is no deployments file"),
        ("usage wrong.yaml", "media.root: Input should be a valid string"),
        ("usage --media-root nonsense://x", "media.root: .*must begin with file:/// or s3://"),
        ("usage --media-root s3://no-such-bucket/x", "s3://no-such-bucket/x: "),
        (f"render {SHIPPED} --output absent/x", "cannot write absent/x: No such file"),
        (f"render {SHIPPED} --rayservice absent/x", "cannot read absent/x: No such file"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(f"diffusion-serve {arguments.split()[0]}: .*{words}.*", last), last


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (f"check {SHIPPED}", 0),
        (f"check {SHIPPED} --elsewhere", 0),
        (f"render {SHIPPED}", 0),
        ("settings", 0),
        (f"up --config {SHIPPED} --print", 0),
        (f"usage {SHIPPED}", 1),
        ("usage --media-root file://{folder}/misspelt", 1),
        ("usage --media-root file://{folder}/there", 0),
        ("usage {folder}/keyed.yaml", 0),
    ],
)
def test_a_command_that_only_reads_makes_nothing(
    command: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIFFUSION_SERVE_HOME", str(tmp_path / "home"))
    (tmp_path / "there").mkdir()
    args = f"media: {{root: 'file://{tmp_path}/there'}}, access: {{keys_env: KEYS}}"
    (tmp_path / "keyed.yaml").write_text(f"applications: [{{args: {{{args}}}}}]")
    before = sorted(tmp_path.rglob("*"))
    assert main(command.format(folder=tmp_path).split()) == status
    assert sorted(tmp_path.rglob("*")) == before
    shown = capsys.readouterr()
    if status:
        assert shown.out == ""
        assert re.fullmatch(f"diffusion-serve usage: file://{tmp_path}/.*: There is no such folder.\n", shown.err)


def test_an_interrupt_ends_it_at_once_behind_a_silent_server() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        where = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        command = [Path(sys.executable).parent / "diffusion-serve", "usage", "--media-root", "s3://bucket/x"]
        with subprocess.Popen(command, env=os.environ | where | keys, stderr=subprocess.PIPE) as process:
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)  # it has asked, and waits
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=15)
    assert (process.returncode, said) == (130, b"")


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
