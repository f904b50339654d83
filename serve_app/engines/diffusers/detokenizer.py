"""From token ids, block by block, to text that may be sent: knows stop strings and UTF-8, but no model.

Text is held back while it could still change: a character whose last bytes are missing, and the beginning of what may
become a stop string.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

REPLACEMENT = "\ufffd"
"""What decoders put in place of bytes that are no whole character."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text to send (may be empty) and how many tokens it stands for; `stopped` when a stop string was reached."""

    text: str
    tokens: int
    stopped: bool = False


class Detokenizer:
    """`decode` turns all tokens so far into text; decoding more tokens must only append to whole characters."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str]) -> None:
        self._decode = decode
        self._stop = tuple(each for each in stop if each)
        self._ids: list[int] = []
        self._sent = 0
        self._sent_tokens = 0
        self._stopped = False

    @property
    def tokens(self) -> int:
        """How many tokens count: all up to and including the one that completed a stop string."""
        return len(self._ids)

    def push(self, ids: Sequence[int]) -> Piece:
        """Takes a finished block."""
        before = len(self._ids)
        self._ids.extend(ids)
        text = self._decode(self._ids)
        if (end := self._stop_at(text)) is not None:
            self._stopped = True
            counts = range(before + 1, len(self._ids))
            stops = (count for count in counts if self._stop_at(self._decode(self._ids[:count])) is not None)
            self._ids = self._ids[: next(stops, len(self._ids))]
            return self._send(text[:end])
        whole = text.removesuffix(REPLACEMENT)
        held_back = max((_overlap(whole, stop) for stop in self._stop), default=0)
        return self._send(whole[: len(whole) - held_back])

    def finish(self) -> Piece:
        """The end of the text: what was held back for a stop string, without a character that never became whole."""
        return Piece("", 0) if self._stopped else self._send(self._decode(self._ids).removesuffix(REPLACEMENT))

    def _send(self, text: str) -> Piece:
        new = text[self._sent :]
        tokens = len(self._ids) - self._sent_tokens if new else 0
        self._sent += len(new)
        self._sent_tokens += tokens
        return Piece(new, tokens, self._stopped)

    def _stop_at(self, text: str) -> int | None:
        # what was sent holds no stop string, nor the beginning of one: it would have been held back
        places = [place for stop in self._stop if (place := text.find(stop, self._sent)) >= 0]
        return min(places, default=None)


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that a stop string could begin with."""
    return next((length for length in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:length])), 0)
