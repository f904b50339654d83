"""What a video file really holds, by imageio-ffmpeg's bundled ffmpeg."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from serve_app.scratch import Scratch

_STREAM = re.compile(
    r"Stream #0:\d+.*?: Video: (?P<codec>\w+).*?, (?P<pix_fmt>\w+)(?:\([^)]*\))?,.*? (?P<width>\d+)x(?P<height>\d+)"
    r".*?, (?P<fps>[\d.]+) fps"
)


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """`frames` is the number that really decodes."""

    frames: int
    fps: float
    width: int
    height: int
    codec: str
    pix_fmt: str


def probe(video: bytes | Path) -> VideoInfo:
    """What the first video stream holds, after decoding all of it; raises ValueError where it does not decode."""
    with _as_file(video) as path:
        # a checksum line for each decoded frame on stdout, the stream's description on stderr
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-xerror", "-i", f"file:{path}"]
        command += ["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framecrc", "-"]
        done = subprocess.run(command, capture_output=True, check=False)
    found = _STREAM.search(done.stderr.decode(errors="replace"))
    if done.returncode or found is None:
        raise ValueError("The file is not a video that can be decoded.")
    count = sum(1 for line in done.stdout.splitlines() if line and not line.startswith(b"#"))
    return VideoInfo(
        frames=count,
        fps=float(found["fps"]),
        width=int(found["width"]),
        height=int(found["height"]),
        codec=found["codec"],
        pix_fmt=found["pix_fmt"],
    )


@contextmanager
def _as_file(video: bytes | Path) -> Generator[Path]:
    if isinstance(video, Path):
        yield video
        return
    with Scratch() as folder:
        path = folder / "video.mp4"
        path.write_bytes(video)
        yield path
