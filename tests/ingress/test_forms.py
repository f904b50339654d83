from __future__ import annotations

from typing import Any

import pytest

from serve_app.errors import InvalidRequest, ServeError, TooLarge
from serve_app.ingress.forms import parse_form
from serve_app.settings import RequestLimits

LIMITS = RequestLimits(form_fields=8, image_bytes=64, json_depth=4)
TYPE = "multipart/form-data; boundary=XX"


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    file = f'; filename="{filename}"\r\nContent-Type: image/png' if filename else ""
    return f'--XX\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + value + b"\r\n"


def parsed(*parts: bytes) -> tuple[dict[str, Any], dict[str, list[bytes]]]:
    return parse_form(TYPE, b"".join(parts) + b"--XX--\r\n", LIMITS)


def test_brackets_make_a_tree_of_strings() -> None:
    data, _ = parsed(
        part("prompt", "ein Fuß".encode()),
        part("nvext[seed]", b"5"),
        part("nvext[annotations][]", b"a"),
        part("nvext[annotations][]", b"b"),
        part("input_reference[image_url]", b"https://x/"),
    )
    assert data == {
        "prompt": "ein Fuß",
        "nvext": {"seed": "5", "annotations": ["a", "b"]},
        "input_reference": {"image_url": "https://x/"},
    }


def test_files_keep_their_bytes_and_lists_their_order() -> None:
    _, files = parsed(part("image[]", b"\x00\r\n1", "a.png"), part("image[]", b"2", "b.png"), part("mask", b"3", "m"))
    assert files == {"image": [b"\x00\r\n1", b"2"], "mask": [b"3"]}


@pytest.mark.parametrize(
    "parts",
    [
        [part("a", b"1"), part("a", b"2")],
        [part("a", b"1"), part("a[b]", b"2")],
        [part("a[b]", b"1"), part("a", b"2")],
        [part("a[]", b"1"), part("a[b]", b"2")],
        [part("a[][b]", b"1")],
        [part("a[b][c][d][e]", b"1")],
        [part("a[b", b"1")],
        [part("]", b"1")],
        [part("", b"1")],
        [part("a", b"\xff")],
        [part(f"f{i}", b"1") for i in range(9)],
        [part(f"f{i}", b"1") for i in range(10_000)],
        [b"--XX\r\nContent-Disposition: form-data\r\n\r\n1\r\n"],
        [b"--XX\r\n\r\n1\r\n"],
        [b"--XX\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n1\r\n"],
        [b"not a form at all"],
    ],
)
def test_what_is_no_proper_form_is_refused(parts: list[bytes]) -> None:
    with pytest.raises(InvalidRequest):
        parsed(*parts)


def test_a_form_must_reach_its_end() -> None:
    with pytest.raises(InvalidRequest, match="last boundary"):
        parse_form(TYPE, part("a", b"1"), LIMITS)
    with pytest.raises(InvalidRequest, match="last boundary"):
        parse_form(TYPE, b"", LIMITS)


def test_a_boundary_is_needed() -> None:
    with pytest.raises(InvalidRequest, match="boundary"):
        parse_form("multipart/form-data", b"", LIMITS)


def test_a_file_over_the_limit_is_too_large() -> None:
    with pytest.raises(TooLarge) as raised:
        parsed(part("image", b"x" * 65, "a.png"))
    assert raised.value.param == "image"


def test_too_many_files() -> None:
    with pytest.raises(ServeError, match="files"):
        parsed(*(part("image[]", b"x", "a.png") for _ in range(18)))
