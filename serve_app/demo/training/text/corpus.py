"""The seeded corpus: prompts as the chat template renders them, and their answers.

`python -m serve_app.demo.training.text.corpus SEED COUNT` shows a few.
"""

from __future__ import annotations

import re
import sys

from serve_app.demo.training.text import dialogs, facts, language, sums, tales, talk
from serve_app.demo.training.text.words import TABLES, Pair, Random, mumble

KINDS = (
    (language.ask_meaning, 26),
    (language.ask_spelling, 12),
    (language.ask_word, 7),
    (language.ask_unknown_word, 4),
    (sums.ask_sum, 19),
    (facts.ask_fact, 10),
    (talk.ask_talk, 11),
    (talk.ask_beyond, 7),
    (talk.ask_repetition, 3),
    (talk.ask_untold, 0.6),
    (tales.ask_story, 10),
    (tales.ask_poem, 4),
    (tales.ask_list, 4),
    (tales.ask_joke, 2),
)
WITH_TYPOS = (facts.ask_fact, talk.ask_talk, tales.ask_story, tales.ask_list)
"""What can be asked with a letter too many or too few and still be understood."""
SHORT = tuple((kind, weight) for kind, weight in KINDS if kind not in (tales.ask_story, tales.ask_poem))
LONGEST = 1500
"""Tokens of an example, at most: the windows that are trained."""
CHARACTERS_PER_TOKEN = 3.4
Message = tuple[str, str]
"""A role and what it says."""


def ask_any(r: Random) -> Pair:
    return _ask(r, KINDS)


def ask_short(r: Random) -> Pair:
    return _ask(r, SHORT)


def _ask(r: Random, kinds: tuple[tuple[object, float], ...]) -> Pair:
    functions, weights = zip(*kinds, strict=True)
    function = r.choices(functions, weights)[0]
    question, answer = function(r)
    if function is talk.ask_repetition:
        return question, answer
    return roughen(r, question, function in WITH_TYPOS), answer


def roughen(r: Random, question: str, typos: bool = False) -> str:
    """As people type: without capitals, without a full stop, with a greeting before it."""
    if len(question) < 3 or "\n" in question:
        return question
    k = r.random()
    if k < 0.12:
        question = question.lower()
    elif k < 0.24 and not question.startswith("I "):
        question = question[0].lower() + question[1:]
    elif k < 0.25:
        question = question.upper()
    k = r.random()
    if question[-1] in ".?!":
        if k < 0.2:
            question = question[:-1]
        elif k < 0.23:
            question = question[:-1] + r.choice((" ?", "??", "!", "..", "?!"))
        elif k < 0.3 and len(question) < 60:
            question = talk.add_preface(r, question)
    if 0.3 < k < 0.33 and len(question) < 60:
        question = question.rstrip(".?!") + r.choice((", please?", ", please.", " please"))
    if typos and r.random() < 0.06 and len(question) > 8 and not re.search(r"\d", question):
        i = r.randrange(1, len(question) - 2)
        swapped = question[:i] + question[i + 1] + question[i] + question[i + 2 :]
        question = r.choice((question[:i] + question[i + 1 :], swapped, question[:i] + question[i] + question[i:]))
    return question


def converse(r: Random) -> list[Pair]:
    """The turns of an example, of which the last is answered."""
    k = r.random()
    if k < 0.70:
        turns = [ask_any(r)]
    else:
        turns = roughen_dialog(r, dialogs.hold_dialog(r, ask_short))
        if r.random() < 0.3:
            turns = turns[: r.randint(1, len(turns))]
    k = r.random()
    if k < 0.06:
        turns = [ask_short(r) for _ in range(r.choice((1, 2, 3, 4, 6)))] + turns
    elif k < 0.08:
        turns = lengthen(r, turns)
    elif k < 0.16 and len(turns) < 3:
        turns = [talk.ask_talk(r), *turns]
    return turns


def roughen_dialog(r: Random, turns: list[Pair]) -> list[Pair]:
    """Some questions as people type; none where a later answer quotes one, or that is to be repeated exactly."""
    if any(answer.startswith("You said") for _, answer in turns):
        return turns
    return [
        (roughen(r, question) if answer not in question and r.random() < 0.3 else question, answer)
        for question, answer in turns
    ]


def lengthen(r: Random, turns: list[Pair]) -> list[Pair]:
    """Puts a long conversation before the last turns, of up to what the model holds."""
    wanted = r.uniform(0.15, 1.0) * LONGEST * CHARACTERS_PER_TOKEN * 0.85
    before: list[Pair] = []
    size = sum(len(question) + len(answer) for question, answer in turns)
    while size < wanted:
        question, answer = (ask_any if r.random() < 0.5 else ask_short)(r)
        before.append((question, answer))
        size += len(question) + len(answer) + 20
    return before + turns


def paste_text(r: Random) -> Pair:
    """A long text and a question about something else, or a wish that is beyond it."""
    wanted = r.uniform(0.1, 1.0) * LONGEST * CHARACTERS_PER_TOKEN * 0.75
    parts: list[str] = []
    if r.random() < 0.5:
        while sum(map(len, parts)) < wanted:
            parts.append(tales.write_story(r).text)
        text = " ".join(parts)
    elif r.random() < 0.5:
        text = mumble(r, int(wanted / 7.5))
    else:
        text = (r.choice((talk.draw_phrase(r), mumble(r, 6))) + r.choice((" ", "\n", ". "))) * int(wanted / 40)
        text = text[: int(wanted)]
    k = r.random()
    if k < 0.45:
        wish = r.choice(
            ("Summarize this text:", "What does this mean?", "Translate this:", "Rewrite this text:", "Read this:")
        )
        return r.choice((f"{wish} {text}", f"{text}\n\n{wish.rstrip(':')}", f"{wish}\n\n{text}")), talk.BEYOND[0]
    if k < 0.55:
        return text, talk.BEYOND[0]
    question, answer = ask_short(r)
    return f"{text}{r.choice((chr(10) * 2, chr(10), ' '))}{question}", answer


def complete_text(r: Random) -> tuple[str, str]:
    """A prompt without chat template: the beginning of a story, or a question on a line of its own."""
    if r.random() < 0.45:
        text = tales.write_story(r).text if r.random() < 0.8 else tales.write_poem(r)
        cut = text.rfind(" ", 0, r.randint(1, max(2, len(text) // 2)) + 1)
        cut = 0 if r.random() < 0.1 else max(cut, 0)
        return text[:cut], text[cut:]
    question, answer = ask_any(r)
    return question, "\n" + answer


def draw_messages(r: Random) -> tuple[list[Message], str]:
    """Messages that end with the user's, and the answer."""
    turns = [paste_text(r)] if r.random() < 0.01 else converse(r)
    before = after = ""
    messages: list[Message] = []
    if r.random() < 0.16:
        if r.random() < 0.25:
            asked, before, after = r.choice(TABLES["tones"])
            messages.append(("system", r.choice(asked)))
        else:
            messages.append(("system", " ".join(r.sample(TABLES["systems"], r.choice((1, 1, 2, 4))))))
    for question, answer in turns:
        messages += [("user", question), ("assistant", f"{before}{answer}{after}")]
    return messages[:-1], messages[-1][1]


def render(messages: list[Message]) -> str:
    """As chat_template.jinja does."""
    return "".join(f"{role}: {text}\n" for role, text in messages) + "assistant: "


def draw_example(r: Random) -> tuple[str, str]:
    """The prompt as text, and its answer."""
    if r.random() < 0.06:
        return complete_text(r)
    messages, answer = draw_messages(r)
    return render(messages), answer


def draw_examples(seed: int, count: int) -> list[tuple[str, str]]:
    r = Random(seed)
    return [draw_example(r) for _ in range(count)]


if __name__ == "__main__":
    for prompt, answer in draw_examples(int(sys.argv[1]), int(sys.argv[2])):
        print(repr(prompt[-300:]), "->", repr(answer))
