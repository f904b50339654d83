from __future__ import annotations

import pytest

from serve_app.ingress.files import Unsatisfiable, not_modified, parse_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-3", (0, 4)),
        ("bytes=4-", (4, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=8-30", (8, 10)),
        (f"bytes=-{10**30}", (0, 10)),
        ("Bytes = 0-0", (0, 1)),
        # what is malformed or several is ignored, and the whole is sent
        ("bytes=5-2", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
    ],
)
def test_single_ranges(header: str | None, expected: tuple[int, int] | None) -> None:
    assert parse_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=99-100", "bytes=-0", f"bytes={10**30}-"])
def test_a_range_behind_the_end_cannot_be_served(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, 10)


def test_no_suffix_of_nothing() -> None:
    with pytest.raises(Unsatisfiable):
        parse_range("bytes=-1", 0)


def test_what_the_caller_has_already_is_not_sent_again() -> None:
    def said(if_none_match: str | None, if_modified_since: str | None = None) -> bool:
        return not_modified(if_none_match, if_modified_since, '"a"', "date")

    assert said('"b", W/"a"')
    assert said("*")
    assert not said('"b"')
    assert not said(None)
    assert said(None, "date")
    assert not said(None, "another date")
    assert not said('"b"', "date")  # the date does not count where there is a tag
