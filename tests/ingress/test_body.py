from __future__ import annotations

import pytest

from serve_app.errors import InvalidRequest, ServeError, TooLarge
from serve_app.ingress.body import parse_json
from serve_app.settings import RequestLimits

LIMITS = RequestLimits(json_depth=4, json_values=200_000)
FEW = RequestLimits(json_values=10, text_bytes=100)


def test_an_object_is_read_as_it_stands() -> None:
    assert parse_json('{"a": [1, 2.5, null, "ä\\ud83e\\udd8a"], "b": {"c": true}}'.encode(), LIMITS) == {
        "a": [1, 2.5, None, "ä🦊"],
        "b": {"c": True},
    }
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', LIMITS) == {"a": 1}
    assert parse_json(b'{"a": 1e400}', LIMITS) == {"a": float("inf")}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"{", "not valid JSON"),
        (b'{"a": 1,}', "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": 1} {"b": 2}', "not valid JSON"),
        (b"[1]", "must be a JSON object"),
        (b'"a"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"x": {"a": 1, "a": 1}}', "'a' stands twice"),
        (b'{"a": 1, "\\u0061": 1}', "'a' stands twice"),
        (b'{"q\\"z": 1, "q\\"z": 1}', "'q\"z' stands twice"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'{"a": -Infinity}', "not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "number out of range"),
        (b'{"a": "\\ud800"}', "not valid JSON"),
        (b'{"a": "\xed\xa0\x80"}', "invalid unicode"),
        (b'{"a": "\xff"}', "invalid unicode"),
        (b'{"a": "\x00"}', "not valid JSON"),
        (b'{"a": [[[[1]]]]}', "deeper than 4"),
        (b'{"a":' * 100_000, "deeper than 4"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deeper than 4"),
    ],
)
def test_everything_else_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        parse_json(raw, LIMITS)


def test_depth_is_counted_and_not_brackets() -> None:
    flat = b'{"a": [' + b",".join([b"[1]"] * 100) + b"]}"
    assert len(parse_json(flat, RequestLimits(json_depth=3))["a"]) == 100
    assert parse_json(b'{"a": "[[[[[[{{{{"}', RequestLimits(json_depth=1))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": [1,2,3,4,5,6,7,8]}',
        b'{"a": ",,,,,,,,[[[[{{{{", "b": "\\",,,,[[[[\\\\"}',
        b'{"a": {"b": [{}, {}, {}], "c": "x"}}',
        b'{"a": "' + b"\\\\" * 100_000 + b',,,,,,,,,,,,"}',
    ],
)
def test_values_are_counted_and_not_marks(raw: bytes) -> None:
    assert parse_json(raw, RequestLimits(json_values=10))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": [1,2,3,4,5,6,7,8,9]}',
        b'{"messages": [' + b'{"role": "user", "content": ""},' * 100 + b"{}]}",
        b'{"a": [' + b"1," * 1_000_000,  # as soon as they are too many, broken or not
        b"[" * 11,
        b'{"a": "\\\\", "b": [' + b"1," * 20 + b"1]}",
    ],
)
def test_too_many_values_are_refused_before_anything_is_parsed(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"more than 10 values \(limits.json_values\)"):
        parse_json(raw, FEW)


IMAGE = b"data:image/png;base64," + b"QUFB" * 100


def test_data_urls_do_not_count_as_text() -> None:
    assert parse_json(b'{"image": "%b", "prompt": "%b"}' % (IMAGE, "ü".encode()), FEW)["prompt"] == "ü"
    assert parse_json(b'{"image": ["%b", "%b"]}' % (IMAGE, IMAGE.replace(b"QUFB", b"QU\\/B")), FEW)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"prompt": "' + b"x" * 200 + b'"}',
        # what would take four bytes for each of its characters hides nowhere
        b'{"image": "%b%b"}' % (IMAGE, "🦊".encode()),
        b'{"image": "%b\\ud83e\\udd8a"}' % IMAGE,
        b'{"prompt": "\\"%b\\" %b"}' % (IMAGE, "🦊".encode()),
        b'{"image": "%b\\" %b"}' % (IMAGE, "🦊".encode()),
        b'{"image": "%b", "prompt": "%b"}' % (IMAGE, b"x" * 200),
        b'{"image": "' + IMAGE,
    ],
)
def test_much_text_is_refused(raw: bytes) -> None:
    with pytest.raises(ServeError) as raised:
        parse_json(raw, FEW)
    assert isinstance(raised.value, TooLarge) == (raw != b'{"image": "' + IMAGE)


@pytest.mark.parametrize("tail", [b"]", b'"', b"}", b'"x"'])
def test_what_is_no_json_is_not_counted_to_its_end(tail: bytes) -> None:
    # more brackets than levels are allowed, so that they are counted; 16 s for 32 MB, were the tail looked through
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        parse_json(b'{"a": [%b[]]}' % (b"[]," * 50) + tail * 1_000_000, RequestLimits())
