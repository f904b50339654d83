"""Stories, poems, jokes and lists."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.demo.training.text.words import (
    COMMON,
    NOUNS,
    TABLES,
    Pair,
    Random,
    capitalize,
    enumerate_words,
    in_words,
    pluralize,
    settle,
    with_article,
)

ANIMALS: list[str] = TABLES["story_animals"]
PEOPLE: list[str] = TABLES["story_people"]
NAMES = {False: TABLES["pet_names"], True: TABLES["first_names"]}
HER = ("girl", "queen", "princess", "witch", "old woman")
HIS = ("boy", "king", "prince", "old man", "fisherman", "wizard", "knight")
OPENINGS = (
    "Once upon a time, {known} {hero} named {name} lived {place}.",
    "Once upon a time, {known} {hero} named {name} lived {place}.",
    "There once was {known} {hero} called {name} who lived {place}.",
    "{name} was {known} {hero} who lived {place}.",
)
PLOTS: list[str] = TABLES["plots"]
ASK_STORY = (
    "Tell me a story.|Tell me a short story.|Write a story.|Write a short story.|Please tell me a story.|Tell a story"
    "|Can you tell me a story?|I want to hear a story.|Make up a story.|Read me a bedtime story.|Write me a story."
).split("|")
ASK_STORY_ABOUT = (
    "Tell me a story about {x}.|Tell me a story about {x}.|Write a story about {x}.|Tell me a short story about {x}."
    "|Write a short story about {x}.|A story about {x}, please.|Can you tell me a story about {x}?"
    "|I want a story about {x}."
    "|Story about {x}|Do you know a story about {x}?|Make up a story about {x}.|Write me a story about {x}."
    "|Please tell me a story about {x}.|Can you write a story about {x}?"
).split("|")


@dataclass(frozen=True, slots=True)
class Story:
    text: str
    name: str
    hero: str
    """`a shy fox`."""


def write_story(r: Random, hero: str | None = None, other: str | None = None) -> Story:
    """A story; its opening and plot belong to the hero most of the time."""
    is_person = hero in PEOPLE if hero else r.random() < 0.2
    hero = hero or r.choice(PEOPLE if is_person else ANIMALS)
    other = other or r.choice([animal for animal in ANIMALS if animal != hero])
    name = r.choice(NAMES[is_person])
    friend = r.choice([each for each in NAMES[False] if each != name])
    her = hero in HER or (hero not in HIS and settle((True, False), name))
    they, their, them = ("she", "her", "her") if her else ("he", "his", "him")
    kind = r.choice(("kind", "brave", "clever") if hero.startswith("old ") else TABLES["virtues"])
    thing = r.choice(TABLES["objects"])
    opening = settle(OPENINGS, hero) if r.random() < 0.8 else r.choice(OPENINGS)
    plot = settle(PLOTS, hero + "!") if r.random() < 0.7 else r.choice(PLOTS)
    text = f"{opening} {plot}".format(
        known=with_article(kind),
        hero=hero,
        name=name,
        place=r.choice(TABLES["places"]),
        object=thing,
        head=thing.split(" ", 1)[1].split(" of ")[0],
        weather=r.choice(TABLES["weather"]),
        other=with_article(other),
        Other=capitalize(with_article(other)),
        friend=friend,
        they=they,
        They=capitalize(they),
        their=their,
        them=them,
    )
    return Story(text, name, f"{with_article(kind)} {hero}")


def ask_story_of(r: Random) -> tuple[str, Story]:
    k = r.random()
    if k < 0.22:
        question = r.choice(ASK_STORY)
        return question, write_story(r, settle(ANIMALS, question))
    hero = r.choice(PEOPLE if r.random() < 0.25 else ANIMALS)
    if k < 0.8:
        return r.choice(ASK_STORY_ABOUT).format(x=with_article(hero)), write_story(r, hero)
    if k < 0.9:
        other = r.choice([animal for animal in ANIMALS if animal != hero])
        about = f"{with_article(hero)} and {with_article(other)}"
        return r.choice(ASK_STORY_ABOUT[:4]).format(x=about), write_story(r, hero, other)
    word = r.choice(COMMON)
    if not NOUNS[word]["countable"] or NOUNS[word]["cat"] not in ("animal", "person"):
        word = hero
    return r.choice(ASK_STORY_ABOUT).format(x=with_article(word)), write_story(r, word)


def ask_stories(r: Random) -> Pair:
    """Two to four stories at once: answers of many blocks."""
    count = r.choice((2, 2, 3, 3, 4))
    hero = r.choice(ANIMALS)
    form = r.choice(
        ("Tell me {n} stories.", "Write {n} stories.", "Tell me {n} short stories.", "Tell me {n} stories about {x}.")
    )
    heroes = [hero if "{x}" in form else None] * count
    stories = [write_story(r, hero).text for hero in heroes]
    return form.format(n=r.choice((in_words(count), str(count))), x=pluralize(hero)), "\n\n".join(stories)


def ask_story(r: Random) -> Pair:
    if r.random() < 0.08:
        return ask_stories(r)
    question, story = ask_story_of(r)
    return question, story.text


RHYMES: list[list[str]] = TABLES["rhymes"]
LINES: dict[str, str] = TABLES["lines"]
ADDRESSES = (
    ("O {w}, when I think of you,", "The sky above is bright and blue."),
    ("I saw {x} the other day,", "It looked at me and ran away."),
    ("Come here, my {w}, come with me,", "There is so much for us to see."),
)
ASK_POEM = (
    "Write a poem.|Write me a poem.|Tell me a poem.|Write a short poem.|Can you write a poem?|A poem, please."
    "|Do you know a poem?|Write a little poem about nature.|Please write a poem."
).split("|")
ASK_POEM_ABOUT = (
    "Write a poem about {x}.|Write me a poem about {x}.|A poem about {x}, please.|Can you write a poem about {x}?"
    "|Poem about {x}|Write a short poem about {x}.|Please write a poem about {x}.|Tell me a poem about {x}."
).split("|")
SKY = "moon sun sea sky rain snow wind night spring summer autumn winter river forest star mountain".split()


def write_poem(r: Random, topic: str | None = None) -> str:
    first, second = r.sample(RHYMES, 2) if topic is None or r.random() < 0.3 else settle_rhymes(topic)
    lines = [LINES[word] for word in (*first, *second)]
    if topic:
        # the living look back; of all else one can only think
        living = topic in ANIMALS or topic in PEOPLE
        address = settle(ADDRESSES if living else ADDRESSES[::2], topic)
        lines[:2] = [line.format(w=topic, x=with_article(topic)) for line in address]
        lines[0], lines[1] = lines[0].rstrip(","), lines[1].rstrip(".")
    return "{},\n{}.\n{},\n{}.".format(*map(capitalize, lines))


def settle_rhymes(key: str) -> tuple[list[str], list[str]]:
    first = settle(RHYMES, key)
    return first, settle([pair for pair in RHYMES if not set(pair) & set(first)], key + "!")


def ask_poem(r: Random) -> Pair:
    if r.random() < 0.3:
        question = r.choice(ASK_POEM)
        first, second = settle_rhymes(question)
        if r.random() < 0.3:
            return question, write_poem(r)
        return question, "{},\n{}.\n{},\n{}.".format(*(capitalize(LINES[word]) for word in (*first, *second)))
    topic = r.choice(r.choice((ANIMALS, PEOPLE, SKY, SKY, COMMON)))
    some = with_article(topic)
    if topic in SKY:
        some = topic if topic in ("rain", "snow", "spring", "summer", "autumn", "winter") else f"the {topic}"
    elif topic in NOUNS and not NOUNS[topic]["countable"]:
        some = topic
    return r.choice(ASK_POEM_ABOUT).format(x=some), write_poem(r, topic)


JOKES: list[list[str]] = TABLES["jokes"]
ASK_JOKE = (
    "Tell me a joke.|Tell me a joke!|Do you know a joke?|Make me laugh.|Say something funny.|Can you tell me a joke?"
    "|A joke please|Give me a riddle.|Please tell me a joke.|I want to hear a joke.|Tell a joke"
).split("|")
ANOTHER = "Another one!|Tell me another one.|Another joke, please.|One more!|Tell me another joke.|Again!".split("|")


def tell_joke(number: int) -> str:
    return " ".join(JOKES[number % len(JOKES)])


def ask_joke(r: Random) -> Pair:
    if r.random() < 0.25:
        question, answer = r.choice(JOKES)
        return question, answer
    question = r.choice(ASK_JOKE)
    return question, settle([" ".join(joke) for joke in JOKES], question)


def ask_list(r: Random) -> Pair:
    topic = r.choice(list(TABLES["lists"]))
    items: list[str] = TABLES["lists"][topic]
    count = min(r.choice((2, 3, 3, 3, 4, 5, 5)), len(items))
    number = r.choice((in_words(count), str(count)))
    chosen = items[:count]
    k = r.random()
    if k < 0.15:
        return r.choice((f"Name one of the {topic}.", f"Name an example of {topic}.")), f"{capitalize(items[0])}."
    if k < 0.35:
        forms = f"Make a list of {number} {topic}.|List {number} {topic}.|Write a list of {number} {topic}."
        return r.choice(forms.split("|")), "\n".join(f"{i}. {capitalize(item)}" for i, item in enumerate(chosen, 1))
    forms = (
        f"Name {number} {topic}.|Name {number} {topic}.|Give me {number} {topic}.|Tell me {number} {topic}."
        f"|Can you name {number} {topic}?|What are {number} {topic}?|Name {number} {topic} please."
    )
    return r.choice(forms.split("|")), f"{capitalize(enumerate_words(chosen))}."
