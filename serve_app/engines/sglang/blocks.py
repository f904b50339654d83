"""Finished blocks out of a completion that is told anew, whole, at every block. Pure.

SGLang answers each block with all the text so far, which may add none. It applies stop strings and the end-of-sequence
token block by block, and in the block that reaches max_tokens not at all: what comes after them is cut here.
"""

from collections.abc import Collection, Sequence

from serve_app.tasks import TextBlock


class Blocks:
    """What is new since the last look, as TextBlocks numbered from 0, up to the first stop string."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._characters = 0
        self._tokens = 0
        self._next = 0
        self.stopped = False

    def take(self, text: str, tokens: int) -> TextBlock | None:
        """The new part of `text`, which has `tokens` tokens; None where nothing is new."""
        if self.stopped:
            return None
        if (end := first_stop(text, self._stop)) is not None:
            text, self.stopped = text[:end], True
        new = text[self._characters :]
        if not new:
            return None
        block = TextBlock(block=self._next, text=new, tokens=max(tokens - self._tokens, 0))
        self._characters, self._tokens = len(text), max(tokens, self._tokens)
        self._next += 1
        return block


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the earliest stop string begins; None if there is none. An empty one stops nothing."""
    places = [place for word in stop if word and (place := text.find(word)) >= 0]
    return min(places, default=None)


def first_end(ids: Sequence[int], ends: Collection[int]) -> int | None:
    """Where the first end-of-sequence token stands; None if there is none."""
    return next((place for place, token in enumerate(ids) if token in ends), None)
