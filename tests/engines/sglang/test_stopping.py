"""The wish to stop, as a worker finds it. That a worker does stop is seen by tests/gpu."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from serve_app.engines.sglang import stopping


def test_sglang_finds_the_plugin() -> None:
    (found,) = entry_points(group="sglang.multimodal_gen.plugins", name="diffusion-serve-stopping")
    assert found.load() is stopping.register


def test_the_wish_stands_while_somebody_waits_for_the_end(tmp_path: Path) -> None:
    file = stopping.path(tmp_path, "a1")
    with stopping.asked(tmp_path, "a1"):
        assert file.exists()
        assert not stopping.path(tmp_path, "a2").exists()
    assert list(tmp_path.iterdir()) == []
