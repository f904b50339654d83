from __future__ import annotations

import pytest

from serve_app.errors import InvalidRequest
from serve_app.ingress.body import parse_json


def test_an_object_is_read_as_it_stands() -> None:
    assert parse_json('{"a": [1, 2.5, null, "ä\\ud83e\\udd8a"], "b": {"c": true}}'.encode(), 4) == {
        "a": [1, 2.5, None, "ä🦊"],
        "b": {"c": True},
    }


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"{", "not valid JSON"),
        (b'{"a": 1,}', "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": 1} {"b": 2}', "not valid JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "not valid JSON"),
        (b"[1]", "must be a JSON object"),
        (b'"a"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"x": {"a": 1, "a": 1}}', "'a' stands twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\x00"}', "not valid JSON"),
        (b'{"a": [[[[1]]]]}', "deeper than 4"),
        (b'{"a":' * 100_000, "deeper than 4"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deeper than 4"),
    ],
)
def test_everything_else_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        parse_json(raw, 4)


def test_depth_is_counted_and_not_brackets() -> None:
    flat = b'{"a": [' + b",".join([b"[1]"] * 100) + b"]}"
    assert len(parse_json(flat, 3)["a"]) == 100
    assert parse_json(b'{"a": "[[[[[[{{{{"}', 1)
