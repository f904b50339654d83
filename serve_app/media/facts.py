"""How a generation's parameters are written into the files it made. Knows text, no file format.

Files hold only what is the same in two runs of one request, so that the same seed keeps giving the same bytes.
"""

import json

_LONGEST_VALUE = 4000
"""Characters; a JPEG's EXIF holds 64 KB in all, and a prompt and a negative prompt must both fit."""


def cleaned(facts: dict[str, str]) -> dict[str, str]:
    """`facts` sorted by name, without what file formats cannot hold: NUL, lone surrogates, very long values."""
    texts = {name: facts[name].replace("\0", "").encode(errors="replace").decode() for name in sorted(facts)}
    longest = _LONGEST_VALUE
    return {name: text if len(text) <= longest else text[: longest - 1] + "…" for name, text in texts.items()}


def as_json(facts: dict[str, str]) -> str:
    """`facts` as one line for formats that hold a single comment."""
    return json.dumps(cleaned(facts), ensure_ascii=False, separators=(",", ":"))
