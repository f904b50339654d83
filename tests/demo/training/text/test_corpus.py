"""The corpus that the text checkpoint learns from, on the sample of words where words.json was not made."""

from __future__ import annotations

import re

import pytest

from serve_app.demo.training.text.corpus import draw_examples
from serve_app.demo.training.text.sums import is_held_out

SUM = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


@pytest.fixture(scope="module")
def examples() -> list[tuple[str, str]]:
    return draw_examples(1, 3000)


def test_the_same_seed_draws_the_same(examples: list[tuple[str, str]]) -> None:
    assert draw_examples(1, 200) == examples[:200]
    assert draw_examples(2, 200) != examples[:200]


def test_all_that_is_calculated_is_right_and_nothing_held_out(examples: list[tuple[str, str]]) -> None:
    found = [match for prompt, answer in examples for match in SUM.findall(prompt + answer)]
    assert len(found) > 300
    for first, sign, second, said in found:
        a, b, result = int(first), int(second), int(said)
        right = {"+": a + b == result, "-": a - b == result, "*": a * b == result, "/": b * result == a}
        assert right[sign], (a, sign, b, result)
        assert sign not in "+-" or not is_held_out(a, b), (a, sign, b)


def test_a_conversation_is_rendered_as_the_template_does(examples: list[tuple[str, str]]) -> None:
    rendered = [prompt for prompt, _ in examples if prompt.endswith("\nassistant: ")]
    assert len(rendered) > 0.9 * len(examples)
    assert all(prompt.startswith(("user: ", "system: ")) for prompt in rendered)
    assert all(answer for _, answer in examples)
