"""Asks a checkpoint through the project's own engine: `python -m serve_app.demo.training.text.evaluate MODEL`.

Prints a list of questions with their answers, then how many held-out sums, definitions, spellings and so on are right,
and how many tokens a denoising step commits; for each threshold, without and with editing. A CPU and some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from serve_app.demo.training.text import language, sums
from serve_app.demo.training.text.corpus import Message, render
from serve_app.demo.training.text.probe import draw_held_out_sums
from serve_app.demo.training.text.words import (
    COMMON,
    COUNTABLE,
    HELD_OUT_UNKNOWN,
    NOUN_LIST,
    NOUNS,
    VERB_LIST,
    VERBS,
    require_words,
    spell,
    with_article,
)
from serve_app.engines.diffusers.text import DiffusersTextEngine
from serve_app.model_settings import TextSettings
from serve_app.tasks import TextBlock, TextEnd, TextTask

QUESTIONS: tuple[str, ...] = (
    "Hello! How are you?", "hi", "Who are you?", "How do you work?", "What can you do?",
    "What is a raccoon?", "what is a piano", "What is happiness?", "What does to borrow mean?", "Define gravity.",
    "Tell me about foxes.", "Could you tell me what a lighthouse is?", "What does brave mean?",
    "What is a blorfinax?", "What is 27 + 48?", "358+267", "What is 90 minus 35?", "What is 7 times 8?",
    "What is 81 divided by 9?", "Which is larger, 17 or 71?", "Is 14 even or odd?",
    "Anna has 12 apples and gets 9 more. How many apples does Anna have?", "Count from 1 to 12.",
    "Spell raccoon.", "How many letters does elephant have?", "How many r's are in strawberry?",
    "What is the first letter of garden?", "What is the opposite of brave?", "What is the plural of mouse?",
    "What is the past tense of swim?", "What day comes after Friday?", "Which month is before March?",
    "How many days does February have?", "What is the capital of Norway?", "What color is a banana?",
    "Is a carrot an animal?", "What sound does a duck make?", "What do cows eat?", "How many legs does a spider have?",
    "Why is the sky blue?", "Tell me a story.", "Tell me a story about a fox.",
    "Tell me a story about a robot and a duck.",
    "Write a poem about the moon.", "Name three fruits.", "Make a list of four tools.", "Tell me a joke.",
    "Repeat after me: the quick brown fox jumps over the lazy dog", "Who won the world cup in 1998?",
    "Write a python function that sorts a list.", "What should I cook today?", "What is my name?", "Thank you!",
)  # fmt: skip
Case = tuple[str, Callable[[str], bool]]
"""A prompt, and which answers to it are right."""
OPEN = tuple(q for q in QUESTIONS if not any(c.isdigit() for c in q))
DIALOGS: tuple[tuple[str, ...], ...] = (
    ("My name is Zebulon.", "Nice to meet you, Zebulon!", "What is 3 + 4?", "3 + 4 = 7.", "What is my name?"),
    ("What is 15 + 20?", "15 + 20 = 35.", "And plus 7?"),
    ("What is 15 + 20?", "15 + 20 = 35.", "And times two?"),
    ("What is a wolf?", "A wolf is an animal.", "How do you spell it?"),
    ("What is the capital of France?", "The capital of France is Paris.", "And of Spain?"),
    ("system: You are a pirate.", "What is a ship?"),
    ("system: You are a helpful assistant.", "Tell me about cats."),
)


@dataclass(slots=True)
class Count:
    """What came of many questions of one sort."""

    right: int = 0
    asked: int = 0
    tokens: int = 0
    steps: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)

    def describe(self) -> str:
        return f"{self.right} of {self.asked} right, {self.tokens / max(1, self.steps):.2f} tokens a step"


class Asker:
    """A loaded checkpoint with one algorithm."""

    def __init__(self, model: Path, algorithm: str, threshold: float) -> None:
        settings = TextSettings(
            model=str(model), served_name="m", algorithm=algorithm, algorithm_config={"threshold": threshold}
        )
        self._engine = DiffusersTextEngine(settings)

    async def ask(self, prompt: str, max_tokens: int = 256) -> tuple[str, TextEnd]:
        task = TextTask(id="q", model="m", prompt=prompt, max_tokens=max_tokens)
        text = ""
        async for event in self._engine.generate(task):
            if isinstance(event, TextBlock):
                text += event.text
            elif isinstance(event, TextEnd):
                return text, event
        raise RuntimeError("the engine gave no end")

    async def count(self, cases: Iterable[Case]) -> Count:
        count = Count()
        for prompt, is_right in cases:
            text, end = await self.ask(prompt)
            right = is_right(text.strip())
            count.asked += 1
            count.right += right
            count.tokens += end.completion_tokens + 1
            count.steps += end.denoising_steps
            if not right:
                count.wrong.append((prompt[-120:], text))
        return count

    def close(self) -> None:
        self._engine.close()


def ask_once(question: str) -> str:
    return render([("user", question)])


def as_prompt(turns: tuple[str, ...]) -> str:
    messages: list[Message] = []
    if turns[0].startswith("system: "):
        messages, turns = [("system", turns[0].removeprefix("system: "))], turns[1:]
    return render(messages + [(("user", "assistant")[i % 2], text) for i, text in enumerate(turns)])


def say_exactly(answer: str) -> Callable[[str], bool]:
    return lambda text: text == answer


def tell_letters(word: str) -> Callable[[str], bool]:
    return lambda text: f"has {len(word)} letters" in text


def admit_not_knowing(word: str) -> Callable[[str], bool]:
    """It names the word, too."""
    return lambda text: word in text and re.search(r"not (know|learned|among the words I know)", text) is not None


def make_cases(count: int) -> dict[str, list[Case]]:
    """Questions whose right answer is known, drawn with a fixed seed."""
    r = Random(5)
    half, quarter = count // 2, count // 4
    words, others = r.sample(NOUN_LIST, half * 4 // 5), r.sample(COUNTABLE, quarter)
    verbs = r.sample([verb for verb in VERB_LIST if verb not in NOUNS], half // 5)
    spelled, strange = r.sample(COMMON, quarter), r.sample(HELD_OUT_UNKNOWN, quarter)
    forms = language.HELD_OUT_FORMS
    asked: dict[str, list[Case]] = {
        "held-out sums": [
            (f"What is {a} + {b}?", say_exactly(f"{a} + {b} = {a + b}.")) for a, b in draw_held_out_sums(count)
        ],
        "definitions": [
            (language.fill_form("What is {x}?", word), say_exactly(NOUNS[word]["sentence"])) for word in words
        ]
        + [(f"What does to {verb} mean?", say_exactly(VERBS[verb]["sentence"])) for verb in verbs],
        "definitions in held-out forms": [
            (language.fill_form(forms[i % len(forms)], word), say_exactly(NOUNS[word]["sentence"]))
            for i, word in enumerate(others)
        ],
        "spelling": [(f"How do you spell {word}?", say_exactly(f"{spell(word)}.")) for word in spelled],
        "letters counted": [(f"How many letters does {word} have?", tell_letters(word)) for word in spelled],
        "unknown words": [(f"What is {with_article(word)}?", admit_not_knowing(word)) for word in strange],
    }
    cases = {name: [(ask_once(question), is_right) for question, is_right in each] for name, each in asked.items()}
    cases["follow-ups of sums"] = [last_turn(sums.follow_sum(r)) for _ in range(quarter)]
    return cases


def last_turn(turns: list[tuple[str, str]]) -> Case:
    messages = [message for question, answer in turns for message in (("user", question), ("assistant", answer))]
    return render(messages[:-1]), say_exactly(turns[-1][1])


async def list_answers(asker: Asker) -> AsyncIterator[str]:
    total = Count()
    for question in QUESTIONS:
        text, end = await asker.ask(ask_once(question))
        if question in OPEN:
            total.tokens, total.steps = total.tokens + end.completion_tokens + 1, total.steps + end.denoising_steps
        yield f"Q: {question}\nA: {text}   [{end.completion_tokens + 1} tokens, {end.denoising_steps} steps]"
    for turns in DIALOGS:
        text, end = await asker.ask(as_prompt(turns))
        yield f"Q: {' / '.join(turns)}\nA: {text}   [{end.completion_tokens + 1} tokens, {end.denoising_steps} steps]"
    yield f"open questions: {total.tokens / total.steps:.2f} tokens a step"


async def evaluate(model: Path, algorithm: str, threshold: float, count: int, listed: bool) -> dict[str, Count]:
    print(f"=== {algorithm}, threshold {threshold}", flush=True)
    asker = Asker(model, algorithm, threshold)
    if listed:
        async for line in list_answers(asker):
            print(line, flush=True)
    counts: dict[str, Count] = {}
    for name, cases in make_cases(count).items():
        counts[name] = await asker.count(cases)
        print(f"{name}: {counts[name].describe()}; wrong: {counts[name].wrong[:4]}", flush=True)
    asker.close()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--count", type=int, default=200, help="sums; half as many definitions, a quarter of the rest")
    parser.add_argument("--only-counts", action="store_true", help="leave the list of questions out")
    parser.add_argument("--modes", nargs="*", default=["LowConfidence:0.95", "LowConfidence:0.5", "JointThreshold:0.5"])
    args = parser.parse_args()
    require_words()
    figures: dict[str, dict[str, int]] = {}
    for mode in args.modes:
        algorithm, threshold = mode.split(":")
        counts = asyncio.run(evaluate(args.model, algorithm, float(threshold), args.count, not args.only_counts))
        figures[mode] = {name: each.right for name, each in counts.items()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
