"""Tokens are bytes here, as in the demo's tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from serve_app.engines.diffusers.detokenizer import Detokenizer, Piece


def decode(ids: Sequence[int]) -> str:
    return bytes(ids).decode(errors="replace")


def pieces(blocks: Sequence[bytes], *stop: str) -> list[Piece]:
    """What is sent for each block, and at the end."""
    detokenizer = Detokenizer(decode, stop)
    sent: list[Piece] = []
    for block in blocks:
        sent.append(detokenizer.push(list(block)))
        if sent[-1].stopped:
            break
    return [*sent, detokenizer.finish()]


def texts(blocks: Sequence[bytes], *stop: str) -> list[str]:
    return [piece.text for piece in pieces(blocks, *stop)]


def test_blocks_pass_as_they_come() -> None:
    assert pieces([b"hello ", b"world"]) == [Piece("hello ", 6), Piece("world", 5), Piece("", 0)]


def test_a_stop_string_cuts_the_text_before_it() -> None:
    assert pieces([b"one two three"], "two") == [Piece("one ", 7, stopped=True), Piece("", 0, stopped=False)]


def test_a_stop_string_across_blocks_is_never_sent() -> None:
    assert texts([b"say st", b"op now"], "stop") == ["say ", "", ""]
    assert texts([b"a\n", b"\n", b"b"], "\n\n") == ["a", "", ""]


def test_what_looked_like_a_stop_string_is_sent_later() -> None:
    assert texts([b"say st", b"art"], "stop") == ["say ", "start", ""]
    assert texts([b"say st"], "stop") == ["say ", "st"]


def test_the_first_of_several_stop_strings_counts() -> None:
    assert texts([b"abcdef"], "ef", "cd", "zz")[0] == "ab"


def test_empty_stop_strings_stop_nothing() -> None:
    assert texts([b"abc"], "")[0] == "abc"


def test_a_character_is_sent_whole() -> None:
    euro, smile = "€".encode(), "😀".encode()
    assert texts([b"5 " + euro[:1], euro[1:] + smile[:3], smile[3:]]) == ["5 ", "€", "😀", ""]


def test_bytes_that_never_become_a_character_are_left_out_at_the_end() -> None:
    assert texts([b"ab" + "€".encode()[:2]]) == ["ab", ""]


def test_wrong_bytes_in_the_middle_are_shown() -> None:
    assert texts([b"a\xff", b"b"]) == ["a", "\ufffdb", ""]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_how_the_text_is_cut_into_blocks_does_not_matter(size: int) -> None:
    data = "naïve café — ENDE no more".encode()
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    detokenizer = Detokenizer(decode, ("END",))
    text = ""
    tokens = 0
    for block in blocks:
        piece = detokenizer.push(list(block))
        text, tokens = text + piece.text, tokens + piece.tokens
        if piece.stopped:
            break
    assert text + detokenizer.finish().text == "naïve café — "
    assert detokenizer.tokens == len("naïve café — END".encode())
    assert tokens <= detokenizer.tokens
