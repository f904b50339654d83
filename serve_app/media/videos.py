"""Encodes H.264 MP4 files by imageio-ffmpeg's bundled ffmpeg. Knows frames and files; no engine, no store.

ffmpeg is called without a shell and gets no text from callers but the metadata comment, by a file that no one else can
read: every user of the machine sees its arguments. They name a video as `file:`, which is a path whatever it is called.
ffmpeg ends with the call: when we are interrupted it is killed.
"""

import io
import math
import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from serve_app.errors import GenerationFailed, InvalidRequest
from serve_app.media.facts import as_json
from serve_app.media.images import Pixels, save
from serve_app.scratch import Scratch

# A fixed number: x264's output depends on it, and the same request must give the same bytes on every machine.
_THREADS = 4
_TIME_LIMIT_S = 600
_THUMBNAIL_SIDE = 512
_TILE_SIDE = 240
_TILES = 16

# BT.709 is what players assume; swscale alone would convert by BT.601 and write no tag.
_ENCODER = [
    *("-vf", "scale=out_color_matrix=bt709:out_range=tv"),
    *("-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p", "-threads", str(_THREADS)),
    *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"),
    *("-flags:v", "+bitexact"),
]


def encode_video(frames: Pixels, fps: int, provenance: dict[str, str] | None = None) -> bytes:
    """An MP4 of exactly these frames at `fps`, playable while it loads; the bytes depend on the arguments alone."""
    _, height, width, _ = frames.shape
    if width % 2 or height % 2:
        raise InvalidRequest(f"A video needs an even width and height, not {width}x{height}.", param="size")
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:0"]
    pixels = np.ascontiguousarray(frames).data.cast("B")
    return _written(source, _ENCODER, provenance, pixels)


def check_encoder() -> None:
    """Encodes a tiny video; raises GenerationFailed where ffmpeg cannot be run or cannot do what we need."""
    encode_video(np.zeros((2, 16, 16, 3), np.uint8), 8, {"probe": "1"})


def remux(path: Path, provenance: dict[str, str] | None = None) -> bytes:
    """The video of `path` as it is encoded, in a file like those of `encode_video`."""
    return _written(["-i", f"file:{path}"], ["-map", "0:v:0", "-c", "copy"], provenance)


def thumbnail(video: Pixels | Path) -> bytes:
    """A WebP of the first frame, at most 512 pixels a side."""
    frames = _read(video, "-frames:v", "1") if isinstance(video, Path) else video
    image = Image.fromarray(frames[0])
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    return save(image, "WEBP", quality=85, method=2)


def spritesheet(video: Pixels | Path) -> bytes:
    """A JPEG contact sheet of up to 16 frames spread evenly, first and last among them, row by row."""
    # read small: a file may hold many frames
    small = ("-vf", f"scale={_TILE_SIDE}:{_TILE_SIDE}:force_original_aspect_ratio=decrease", "-fps_mode", "passthrough")
    frames = _read(video, *small) if isinstance(video, Path) else video
    places = np.linspace(0, len(frames) - 1, min(len(frames), _TILES)).round().astype(int)
    tiles = [Image.fromarray(frames[place]) for place in places]
    for tile in tiles:
        tile.thumbnail((_TILE_SIDE, _TILE_SIDE), Image.Resampling.BILINEAR)
    columns = math.ceil(math.sqrt(len(tiles)))
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, math.ceil(len(tiles) / columns) * height))
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % columns * width, index // columns * height))
    return save(sheet, "JPEG", quality=85)


def _ffmpeg(doing: str, *arguments: str, pixels: memoryview | bytes = b"") -> bytes:
    """What ffmpeg writes to its standard output; GenerationFailed where it cannot do it."""
    threads = ["-threads", str(_THREADS), "-filter_threads", str(_THREADS)]
    try:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", "-loglevel", "error", *threads]
        done = subprocess.run([*command, *arguments], input=pixels, capture_output=True, timeout=_TIME_LIMIT_S)  # noqa: S603
    except subprocess.TimeoutExpired as exc:
        raise GenerationFailed(f"ffmpeg took more than {_TIME_LIMIT_S} s.") from exc
    except (OSError, RuntimeError) as exc:
        raise GenerationFailed(f"ffmpeg cannot be run: {exc}") from exc
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise GenerationFailed(f"The video could not be {doing}: {reason}")
    return done.stdout


def _written(
    source: list[str], encoding: list[str], provenance: dict[str, str] | None, pixels: memoryview | bytes = b""
) -> bytes:
    """The MP4 that ffmpeg makes; it goes through a file because its index is moved to the front at the end."""
    with Scratch() as folder:
        path, facts = folder / "video.mp4", folder / "facts"
        metadata = ["-map_metadata", "-1"]
        if provenance:
            # https://ffmpeg.org/ffmpeg-formats.html#Metadata
            comment = re.sub(r"([=;#\\\n])", r"\\\1", as_json(provenance))
            facts.write_text(f";FFMETADATA1\ncomment={comment}\n", encoding="utf-8")
            source, metadata = [*source, "-f", "ffmetadata", "-i", str(facts)], ["-map_metadata", "1"]
        form = [*metadata, "-fflags", "+bitexact", "-movflags", "+faststart", "-f", "mp4"]
        _ffmpeg("encoded", *source, *encoding, *form, str(path), pixels=pixels)
        return path.read_bytes()


def _read(path: Path, *options: str) -> list[Pixels]:
    """The frames of a file that ffmpeg's `options` leave."""
    source = ["-i", f"file:{path}", "-map", "0:v:0"]
    pixels = _ffmpeg("decoded", *source, *options, "-f", "image2pipe", "-c:v", "ppm", "-")
    stream = io.BytesIO(pixels)
    frames: list[Pixels] = []
    while header := re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", pixels[stream.tell() : stream.tell() + 32]):
        width, height = int(header[1]), int(header[2])
        stream.seek(header.end(), io.SEEK_CUR)
        frames.append(np.frombuffer(stream.read(width * height * 3), np.uint8).reshape(height, width, 3))
    if not frames:
        raise GenerationFailed("The video could not be decoded: it has no frames.")
    return frames
