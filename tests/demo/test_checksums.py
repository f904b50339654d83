"""The list that goes along with a trained checkpoint."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from serve_app.demo.checksums import LIST, check_file, check_files, write_list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "vae").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "vae" / "config.json").write_text("{}")
    write_list(folder)
    return folder


def test_what_was_listed_passes_here_and_with_sha256sum(folder: Path) -> None:
    check_files(folder)
    subprocess.run(["sha256sum", "--check", "--strict", LIST], cwd=folder, check=True, capture_output=True)


def test_a_changed_file_is_named(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match=r"damaged: model\.safetensors is not what SHA256SUMS says.*Install"):
        check_files(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"incomplete: vae/config\.json is missing"):
        check_files(folder)


def test_a_file_too_many_is_named(folder: Path) -> None:
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(ValueError, match=r"holds pytorch_model\.bin"):
        check_files(folder)


def test_one_file_is_checked_and_no_other_is_read(folder: Path) -> None:
    """An adapter lies in the folder of its model, whose large files are checked as that is loaded."""
    (folder / "vae" / "config.json").write_text("{ }")
    check_file(folder, "model.safetensors")
    with pytest.raises(ValueError, match=r"damaged: vae/config\.json is not what SHA256SUMS says"):
        check_file(folder, "vae/config.json")
    (folder / "other.safetensors").touch()
    with pytest.raises(ValueError, match=r"holds other\.safetensors, which its SHA256SUMS does not name"):
        check_file(folder, "other.safetensors")


def test_a_folder_without_its_list(folder: Path) -> None:
    (folder / LIST).unlink()
    with pytest.raises(ValueError, match="has no SHA256SUMS"):
        check_files(folder)


def test_a_card_may_be_added_and_mended(folder: Path) -> None:
    (folder / "README.md").write_text("What it knows.")
    check_files(folder)
