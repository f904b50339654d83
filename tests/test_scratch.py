"""Folders of processes that live, that ended and that were killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app import scratch
from serve_app.scratch import Scratch

HOLD = """
import sys
from pathlib import Path
from serve_app.scratch import Scratch
held = Scratch(Path(sys.argv[1]))
(held.path / "video.mp4").write_bytes(b"half")
print(held.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this process believes temporary files to go."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    monkeypatch.setattr(tempfile, "tempdir", None)


def left_behind(parent: Path) -> Path:
    """A folder whose process has ended without removing it."""
    folder = Path(tempfile.mkdtemp(prefix=scratch.PREFIX, dir=parent))
    (folder / scratch.MARKER).write_bytes(scratch.MARK)
    return folder


def test_a_folder_is_gone_with_its_block(temporary: Path) -> None:
    with Scratch() as folder:
        (folder / "x").write_bytes(b"x")
        assert folder.parent == temporary
    assert list(temporary.iterdir()) == []


def test_closing_twice_is_no_error(temporary: Path) -> None:
    held = Scratch(temporary)
    held.close()
    held.close()


def test_only_what_a_killed_process_left_is_swept(temporary: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(temporary)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        scratch.sweep()
        assert (folder / "video.mp4").exists(), "its process lives"
        process.send_signal(signal.SIGKILL)
    with Scratch() as mine:
        strangers = temporary / "someone-elses"
        strangers.mkdir()
        scratch.sweep()
        assert mine.exists()
        assert strangers.exists()
    assert not folder.exists()


def test_a_folder_may_be_on_the_way_to_its_lock(temporary: Path) -> None:
    begun = Path(tempfile.mkdtemp(prefix=scratch.PREFIX, dir=temporary))
    scratch.sweep()
    (begun / scratch.MARKER).touch()
    scratch.sweep()
    assert begun.exists()
    (begun / scratch.MARKER).write_bytes(scratch.MARK)
    scratch.sweep()
    assert not begun.exists()


def test_a_strangers_folder_may_have_such_a_name(temporary: Path) -> None:
    clone = temporary / f"{scratch.PREFIX}clone"
    (clone / ".git").mkdir(parents=True)
    other = temporary / f"{scratch.PREFIX}other"
    other.mkdir()
    (other / scratch.MARKER).write_text("something else")
    linked = temporary / f"{scratch.PREFIX}linked"
    linked.mkdir()
    (linked / scratch.MARKER).symlink_to(left_behind(temporary) / scratch.MARKER)
    scratch.sweep()
    assert clone.exists()
    assert other.exists()
    assert linked.exists()


def test_a_link_is_not_followed(temporary: Path) -> None:
    target = temporary / "precious"
    target.mkdir()
    (temporary / f"{scratch.PREFIX}link").symlink_to(target)
    scratch.sweep()
    assert target.exists()
