"""The data step: renders the things' emoji and packs them to `sprites.npz`.

    npm install --prefix DIR @iconify-json/noto @iconify-json/fluent-emoji @iconify-json/fluent-emoji-flat \
        emojibase-data @resvg/resvg-js
    python -m serve_app.demo.training.sprites DIR sprites.npz

needs node and the npm packages above, takes a minute or two. Noto Emoji is Apache-2.0, Fluent Emoji and emojibase MIT.
The archive holds WebP pictures of 256x256, thing by thing in the order of THINGS, each in the order of STYLES.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from serve_app.demo.training.render import SPRITE
from serve_app.demo.training.things import STYLES, THINGS

PACKAGES = {"noto": "noto", "flat": "fluent-emoji-flat", "3d": "fluent-emoji"}
# one process a picture: resvg's renderer crashes on a few drawings, and takes its process with it
RENDER = """
const {Resvg} = require('@resvg/resvg-js'); const fs = require('fs');
for (const [name, svg] of Object.entries(JSON.parse(fs.readFileSync(0)))) {
  const image = new Resvg(svg, {fitTo: {mode: 'width', value: %d}, font: {loadSystemFonts: false}});
  fs.writeFileSync(name, image.render().asPng());
}
"""


def main() -> None:
    packages, target = Path(sys.argv[1]) / "node_modules", Path(sys.argv[2])
    drawings = {style: _read_icons(packages, name) for style, name in PACKAGES.items()}
    codes = _read_codes(packages)
    folder = target.parent / "png"
    folder.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, str] = {}
    for index, thing in enumerate(THINGS):
        for style in STYLES:
            jobs[str(folder.resolve() / f"{index}-{style}.png")] = _svg(
                drawings[style], thing.label, codes[thing.label]
            )
    subprocess.run(["node", "-e", RENDER % SPRITE], input=json.dumps(jobs), text=True, check=True, cwd=packages.parent)
    pictures = [_pack(Path(path)) for path in jobs]
    ends = np.cumsum([0, *(len(picture) for picture in pictures)])
    np.savez(target, blob=np.frombuffer(b"".join(pictures), np.uint8), off=ends)
    print(f"{len(pictures)} sprites of {len(THINGS)} things, {target.stat().st_size / 2**20:.1f} MiB")


def _read_icons(packages: Path, name: str) -> dict[str, Any]:
    folder = packages / "@iconify-json" / name
    icons: dict[str, Any] = json.loads((folder / "icons.json").read_text())
    icons["chars"] = json.loads((folder / "chars.json").read_text())
    return icons


def _read_codes(packages: Path) -> dict[str, str]:
    """Labels to hexadecimal code points."""
    emojis = json.loads((packages / "emojibase-data/en/data.json").read_text())
    return {emoji["label"]: emoji["hexcode"].lower() for emoji in emojis}


def _svg(icons: dict[str, Any], label: str, code: str) -> str:
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


if __name__ == "__main__":
    main()
