"""Renders emoji, drawn by Noto and Fluent Emoji, and packs them to an archive of WebP pictures of 256x256."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from serve_app.demo.training.render import SPRITE

PACKAGES = {"noto": "noto", "flat": "fluent-emoji-flat", "3d": "fluent-emoji"}
RENDER = """
const {Resvg} = require('@resvg/resvg-js'); const fs = require('fs');
for (const [name, svg] of Object.entries(JSON.parse(fs.readFileSync(0)))) {
  const image = new Resvg(svg, {fitTo: {mode: 'width', value: %d}, font: {loadSystemFonts: false}});
  fs.writeFileSync(name, image.render().asPng());
}
"""


def write_sprites(packages: Path, target: Path, drawings: Sequence[tuple[str, str]]) -> None:
    """Renders (label, style) after (label, style); `packages` is the folder that holds node_modules."""
    modules = packages / "node_modules"
    icons = {style: _read_icons(modules, name) for style, name in PACKAGES.items()}
    codes = _read_codes(modules)
    folder = target.parent / "png"
    folder.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, str] = {}
    for number, (label, style) in enumerate(drawings):
        jobs[str(folder.resolve() / f"{number}.png")] = _compose_svg(icons[style], label, codes[label])
    subprocess.run(["node", "-e", RENDER % SPRITE], input=json.dumps(jobs), text=True, check=True, cwd=packages)
    pictures = [_pack(Path(path)) for path in jobs]
    shutil.rmtree(folder)
    ends = np.cumsum([0, *(len(picture) for picture in pictures)])
    np.savez(target, blob=np.frombuffer(b"".join(pictures), np.uint8), off=ends)


def _read_icons(modules: Path, name: str) -> dict[str, Any]:
    folder = modules / "@iconify-json" / name
    icons: dict[str, Any] = json.loads((folder / "icons.json").read_text())
    # fluent-emoji's own list of characters lacks some, which have the same names there as in the flat set
    icons["chars"] = json.loads((modules / "@iconify-json/fluent-emoji-flat/chars.json").read_text())
    icons["chars"] |= json.loads((folder / "chars.json").read_text())
    return icons


def _read_codes(modules: Path) -> dict[str, str]:
    """Labels to hexadecimal code points."""
    emojis = json.loads((modules / "emojibase-data/en/data.json").read_text())
    return {emoji["label"]: emoji["hexcode"].lower() for emoji in emojis}


def _compose_svg(icons: dict[str, Any], label: str, code: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", label.lower().replace("'", "")).strip("-")
    names = [slug, icons["chars"].get(code), icons["chars"].get(code.replace("-fe0f", ""))]
    icon = next(icons["icons"][name] for name in names if name in icons["icons"])
    width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} width="{width}" height="{height}" viewBox="{box}">{icon["body"]}</svg>'


def _pack(path: Path) -> bytes:
    picture = Image.open(path).convert("RGBA")
    square = Image.new("RGBA", (SPRITE, SPRITE))
    picture.thumbnail((SPRITE, SPRITE))
    square.paste(picture, ((SPRITE - picture.width) // 2, (SPRITE - picture.height) // 2))
    packed = io.BytesIO()
    square.save(packed, "WEBP", quality=86, method=4, alpha_quality=90)
    return packed.getvalue()
