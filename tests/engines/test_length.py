from __future__ import annotations

from dataclasses import replace

import pytest

from serve_app.engines.prompts import fitted
from serve_app.errors import ContextLengthExceeded
from serve_app.tasks import Message, TextTask

TASK = TextTask(id="t", model="m", max_tokens=100, prompt="p")
OURS = replace(TASK, fewer_tokens=True)


def test_what_fits_is_left_alone() -> None:
    assert fitted(TASK, 100, 200) is TASK
    assert fitted(OURS, 100, 200) is OURS


def test_a_default_of_ours_is_cut_to_what_is_left() -> None:
    assert fitted(OURS, 150, 200) == replace(OURS, max_tokens=50)
    assert fitted(OURS, 199, 200).max_tokens == 1


@pytest.mark.parametrize(
    ("task", "prompt_tokens", "param"),
    [
        (TASK, 101, "max_tokens"),
        (TASK, 200, "prompt"),
        (OURS, 200, "prompt"),
        (replace(OURS, messages=(Message(role="user", content="p"),)), 500, "messages"),
    ],
)
def test_what_does_not_fit_is_refused_in_openais_words(task: TextTask, prompt_tokens: int, param: str) -> None:
    with pytest.raises(ContextLengthExceeded, match="maximum context length is 200 tokens") as raised:
        fitted(task, prompt_tokens, 200)
    assert (raised.value.param, raised.value.code) == (param, "context_length_exceeded")
