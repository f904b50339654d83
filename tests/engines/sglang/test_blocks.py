"""Blocks out of text that is told anew at every step."""

from __future__ import annotations

from serve_app.engines.sglang.blocks import Blocks, first_end, first_stop
from serve_app.tasks import TextBlock


def test_only_steps_with_new_text_make_blocks() -> None:
    blocks = Blocks(())
    assert blocks.take("", 0) is None
    assert blocks.take("", 0) is None
    assert blocks.take("Hello", 32) == TextBlock(block=0, text="Hello", tokens=32)
    assert blocks.take("Hello", 32) is None
    assert blocks.take("Hello you", 40) == TextBlock(block=1, text=" you", tokens=8)
    assert not blocks.stopped


def test_tokens_without_text_count_with_the_next_block() -> None:
    blocks = Blocks(())
    assert blocks.take("", 2) is None
    assert blocks.take("é", 4) == TextBlock(block=0, text="é", tokens=4)


def test_nothing_comes_after_a_stop_string() -> None:
    blocks = Blocks(("END", "\n\n"))
    assert blocks.take("a b", 32) is not None
    assert blocks.take("a b c END of", 64) == TextBlock(block=1, text=" c ", tokens=32)
    assert blocks.stopped
    assert blocks.take("a b c END of it", 96) is None


def test_a_stop_string_at_once_makes_no_block() -> None:
    blocks = Blocks(("x",))
    assert blocks.take("xyz", 3) is None
    assert blocks.stopped


def test_the_earliest_stop_counts() -> None:
    assert first_stop("one two three", ("three", "two")) == 4
    assert first_stop("one", ("two",)) is None
    assert first_stop("one", ("",)) is None


def test_the_first_end_token() -> None:
    assert first_end([5, 7, 9, 7], {7}) == 1
    assert first_end([5, 6], {7}) is None
    assert first_end([5, 6], set()) is None
