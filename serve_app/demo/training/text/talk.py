"""Small talk, what it is to repeat, and what is beyond it."""

from __future__ import annotations

from serve_app.demo.training.text.words import (
    ADJECTIVE_LIST,
    COMMON,
    NOUN_LIST,
    TABLES,
    Pair,
    Random,
    capitalize,
    invent_word,
    mumble,
    with_article,
)

TALK: list[tuple[list[str], str]] = [(questions, answer) for questions, answer in TABLES["talk"]]
GREETINGS = (0, 5, 6, 7, 8)
"""The rows of TALK that are asked most."""
BEYOND = (
    "I am a very small model, so I do not know that. I know common words, sums and stories.",
    "Sorry, that is too difficult for me. Ask me what a word means, or for a sum or a story.",
)


def ask_talk(r: Random) -> Pair:
    questions, answer = TALK[r.choice(GREETINGS)] if r.random() < 0.35 else r.choice(TALK)
    return r.choice(questions), answer


def ask_beyond(r: Random) -> Pair:
    """What it cannot know: the answer belongs to the form of the question."""
    form = r.choice(TABLES["beyond"])
    city, other_city = r.sample(TABLES["lists"]["cities"], 2)
    question = form.format(
        year=r.randint(1500, 2030),
        country=r.choice(TABLES["capitals"])[0],
        city=city,
        city2=other_city,
        thing=r.choice(TABLES["things_to_write"]),
        word=r.choice(NOUN_LIST),
        word2=r.choice(NOUN_LIST),
        lang=r.choice(TABLES["languages"]),
        topic=r.choice(TABLES["topics"]),
        topic2=r.choice(TABLES["topics"]),
        howto=r.choice(TABLES["how_to"]),
        a_word=with_article(r.choice(NOUN_LIST)),
        first=r.choice(TABLES["first_names"]),
        last=r.choice(TABLES["last_names"]),
        big=r.randint(20, 9999),
        fakec=capitalize(invent_word(r)),
        junk=mumble(r, r.choice((2, 3, 5, 8, 14, 25, 45))),
        n=r.randint(2, 50),
        unknown=invent_word(r),
        unknown2=r.choice(NOUN_LIST),
    )
    can_do = form.startswith(
        ("Write", "Can you", "Please", "Translate", "How do I", "How can I", "Summarize", "Fix", "Draw")
    )
    return question, BEYOND[1 if can_do else 0]


def draw_phrase(r: Random) -> str:
    k = r.random()
    if k < 0.3:
        return r.choice(TALK)[0][0]
    if k < 0.55:
        return mumble(r, r.choice((2, 3, 5, 8)))
    if k < 0.8:
        start, verb = r.choice(("The", "A", "My", "Every")), r.choice(("is", "was", "likes", "sees", "needs"))
        article = r.choice(("a", "the", "my", "no"))
        return f"{start} {r.choice(COMMON)} {verb} {article} {r.choice(ADJECTIVE_LIST)} {r.choice(NOUN_LIST)}."
    names = TABLES["first_names"]
    others = (
        f"{r.choice(names)} and {r.choice(names)}",
        invent_word(r),
        str(r.randrange(100000)),
        " ".join(r.sample(COMMON, 3)),
        r.choice(NOUN_LIST),
    )
    return r.choice(others)


def ask_repetition(r: Random) -> Pair:
    phrase = draw_phrase(r)
    forms = (
        "Repeat after me: {}",
        "Say: {}",
        'Repeat: "{}"',
        'Please say "{}"',
        "Repeat this: {}",
        "Write exactly this: {}",
        "Echo {}",
    )
    return r.choice(forms).format(phrase), phrase


def ask_untold(r: Random) -> Pair:
    """What it could only know had it been told before."""
    if r.random() < 0.6:
        return r.choice(
            ("What is my name?", "What's my name?", "Do you know my name?", "Who am I?")
        ), "You have not told me your name."
    thing = r.choice(("color", "animal", "food", "number", "city"))
    return r.choice(
        (f"What is my favorite {thing}?", f"Which {thing} do I like?")
    ), f"You have not told me your favorite {thing}."


def add_preface(r: Random, question: str) -> str:
    """A greeting before the question."""
    words = "Please: |Hey, |Hi! |Hello! |So, |Okay. |Now: |Question: |Tell me: |Hi, |Hello, |Good morning! "
    return r.choice(words.split("|")) + question
