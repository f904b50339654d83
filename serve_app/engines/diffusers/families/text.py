"""What a family of text models says of itself, and what it tells of a text while it is made."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch

from serve_app.engines.diffusers.arguments import Algorithm
from serve_app.engines.diffusers.families.base import Family
from serve_app.engines.diffusers.loading import Source
from serve_app.tasks import TextTask


class Watcher(Protocol):
    """Is told of each step and block, in order. It may raise, which ends the pipeline's call."""

    def see_step(self, place: int, ids: list[int], masked: Sequence[bool], *, last: bool) -> None:
        """One denoising step of the block at `place`: its tokens, and which of them are open still."""
        ...

    def end_block(self, ids: Sequence[int] | None = None) -> None:
        """The block of the last step is finished, and holds `ids`, or what that step left."""
        ...


class TextFamily(Family):
    """A model and its tokenizer. `algorithms` are SGLang's names for what it can do, the default first.

    `samples` are the sampling parameters that change the text. `context` is the most tokens of prompt and completion,
    `ends` the tokens that end a text.
    """

    algorithms: ClassVar[tuple[str, ...]]
    samples: ClassVar[tuple[str, ...]]
    block_length: int
    context: int
    tokenizer: Any
    model: torch.nn.Module
    ends: frozenset[int]

    def __init__(self, source: Source, class_name: str) -> None:
        raise NotImplementedError

    def generate(self, task: TextTask, prompt: list[int], algorithm: Algorithm, watcher: Watcher) -> None:
        """Makes `task.max_tokens` tokens after `prompt`, and tells `watcher` of no token beyond them."""
        raise NotImplementedError


def seeded(task: TextTask, device: torch.device) -> dict[str, Any]:
    """The argument that a seed comes to; none where the caller named no seed."""
    return {} if task.seed is None else {"generator": torch.Generator(device).manual_seed(task.seed)}
