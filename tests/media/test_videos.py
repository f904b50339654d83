from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from serve_app.errors import GenerationFailed, InvalidRequest
from serve_app.media.images import Pixels
from serve_app.media.videos import encode_video, remux, spritesheet, thumbnail
from tests.probing import probe

FACTS = {"model": "demo/wan-tiny", "seed": "7", "prompt": 'a "raccoon"; rm -rf $HOME\nin Zürich ✓ \0\ud800'}


def moving(frames: int, width: int = 64, height: int = 48, seed: int = 0) -> Pixels:
    """Frame i is a flat grey of its own with a little noise."""
    noise = np.random.default_rng(seed).normal(0, 2, (frames, height, width, 3))
    levels = np.linspace(30, 220, frames)[:, None, None, None]
    return (noise + levels).clip(0, 255).astype(np.uint8)


def comment_of(data: bytes, folder: Path) -> str:
    path = folder / "x.mp4"
    path.write_bytes(data)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path), "-f", "ffmetadata", "-"]
    text = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    found = re.search(r"^comment=((?:.|\\\n)*)$", text, re.MULTILINE)
    assert found is not None, text
    return re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL)


@pytest.mark.parametrize(("count", "fps"), [(1, 8), (2, 1), (17, 16), (18, 30), (33, 24), (49, 60)])
def test_exact_frames_and_fps(count: int, fps: int) -> None:
    info = probe(encode_video(moving(count), fps))
    assert (info.frames, info.fps, info.codec, info.pix_fmt) == (count, fps, "h264", "yuv420p")
    assert (info.width, info.height) == (64, 48)


@pytest.mark.parametrize(("width", "height"), [(2, 2), (66, 50), (130, 74), (832, 480)])
def test_sizes_are_kept(width: int, height: int) -> None:
    info = probe(encode_video(moving(3, width, height), 8))
    assert (info.width, info.height, info.frames) == (width, height, 3)


@pytest.mark.parametrize(("width", "height"), [(65, 48), (64, 47)])
def test_odd_sizes_are_refused(width: int, height: int) -> None:
    with pytest.raises(InvalidRequest, match="even"):
        encode_video(moving(1, width, height), 8)


def test_colours_come_back() -> None:
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    frames[:, :32, :32] = (200, 30, 30)
    frames[:, :32, 32:] = (30, 200, 30)
    frames[:, 32:, :32] = (30, 30, 200)
    with Image.open(io.BytesIO(encode_first_frame(frames))) as image:
        shown = np.asarray(image).astype(int)
    for y, x in ((16, 16), (16, 48), (48, 16), (48, 48)):
        assert np.abs(shown[y, x] - frames[0, y, x]).max() < 16


def encode_first_frame(frames: Pixels) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", "pipe:0", "-frames:v", "1"]
    video = encode_video(frames, 8)
    return subprocess.run([*command, "-f", "image2pipe", "-c:v", "png", "-"], input=video, capture_output=True).stdout


def test_same_input_same_bytes() -> None:
    turned_around = dict(reversed(FACTS.items()))
    first = encode_video(moving(17, 256, 256), 16, FACTS)
    assert first == encode_video(moving(17, 256, 256), 16, turned_around)
    assert first != encode_video(moving(17, 256, 256, seed=1), 16, FACTS)


def test_index_stands_before_the_frames() -> None:
    data = encode_video(moving(9), 8, FACTS)
    assert data[4:8] == b"ftyp"
    assert data.index(b"moov") < data.index(b"mdat")


def test_comment_carries_the_facts(tmp_path: Path) -> None:
    written = json.loads(comment_of(encode_video(moving(2), 8, FACTS), tmp_path))
    assert written["model"] == "demo/wan-tiny"
    assert written["prompt"] == 'a "raccoon"; rm -rf $HOME\nin Zürich ✓ ?'
    assert b"creation_time" not in encode_video(moving(2), 8, FACTS)


def test_remux_keeps_the_frames_and_writes_the_facts(tmp_path: Path) -> None:
    source = tmp_path / "-odd name%d.mp4"
    source.write_bytes(encode_video(moving(17), 16))
    data = remux(source, FACTS)
    assert data == remux(source, FACTS)
    assert data.index(b"moov") < data.index(b"mdat")
    assert probe(data) == probe(source)
    assert json.loads(comment_of(data, tmp_path))["seed"] == "7"


def test_remux_of_something_else_fails_with_the_reason(tmp_path: Path) -> None:
    source = tmp_path / "x.mp4"
    source.write_bytes(b"no video")
    with pytest.raises(GenerationFailed, match=r"encoded: ."):
        remux(source)
    with pytest.raises(GenerationFailed):
        thumbnail(source)
    with pytest.raises(GenerationFailed):
        spritesheet(source)


@pytest.mark.parametrize("data", [b"", b"no video", b"\0" * 1000])
def test_probe_refuses_what_is_no_video(data: bytes) -> None:
    with pytest.raises(ValueError, match="decoded"):
        probe(data)


def test_probe_counts_what_decodes(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(encode_video(moving(17), 16)[:-200])
    try:
        assert probe(path).frames < 17
    except ValueError:
        return


def test_thumbnail_is_the_first_frame(tmp_path: Path) -> None:
    frames = moving(5, 832, 480)
    path = tmp_path / "x.mp4"
    path.write_bytes(encode_video(frames, 8))
    for data in (thumbnail(frames), thumbnail(path)):
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("WEBP", (512, 295))
            assert abs(np.asarray(image).mean() - 30) < 6
    assert thumbnail(frames) == thumbnail(frames)


@pytest.mark.parametrize(("count", "size"), [(1, (64, 48)), (2, (128, 48)), (5, (192, 96)), (49, (256, 192))])
def test_spritesheet_shows_frames_in_order(tmp_path: Path, count: int, size: tuple[int, int]) -> None:
    data = spritesheet(moving(count))
    assert data == spritesheet(moving(count))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", size)
        if count == 49:
            shown = np.asarray(image.convert("L"))
            tiles = [shown[y : y + 48, x : x + 64].mean() for y in range(0, 192, 48) for x in range(0, 256, 64)]
            assert tiles == sorted(tiles)
            assert abs(tiles[0] - 30) < 4
            assert abs(tiles[-1] - 220) < 4


def test_spritesheet_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(encode_video(moving(49, 320, 160), 16))
    with Image.open(io.BytesIO(spritesheet(path))) as image:
        assert image.size == (960, 480)
        shown = np.asarray(image.convert("L"))
    tiles = [shown[y : y + 120, x : x + 240].mean() for y in range(0, 480, 120) for x in range(0, 960, 240)]
    assert tiles == sorted(tiles)


def test_no_prompt_is_among_ffmpegs_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user of the machine sees those."""
    seen = tmp_path / "arguments"
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\necho "$@" >> {seen}\nexec {imageio_ffmpeg.get_ffmpeg_exe()} "$@"\n')
    program.chmod(0o755)
    plain = encode_video(moving(2), 8, FACTS)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    try:
        facts = {"prompt": "a secret; it = #1 \\ here\nsecond line", "seed": "7"}
        data = encode_video(moving(2), 8, facts)
        assert encode_video(moving(2), 8, FACTS) == plain
    finally:
        monkeypatch.undo()
    assert "libx264" in seen.read_text()
    assert "secret" not in seen.read_text()
    assert json.loads(comment_of(data, tmp_path)) == facts
