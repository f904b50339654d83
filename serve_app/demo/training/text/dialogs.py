"""Conversations of several turns, whose later answers depend on what was said before."""

from __future__ import annotations

from collections.abc import Callable

from serve_app.demo.training.text import facts, language, tales, talk
from serve_app.demo.training.text.sums import follow_sum
from serve_app.demo.training.text.words import (
    CATEGORIES,
    COMMON,
    NOUNS,
    OPPOSITES,
    TABLES,
    Pair,
    Random,
    capitalize,
    invent_word,
    named,
    pluralize,
    spell,
    with_article,
)

Ask = Callable[[Random], Pair]
Turns = list[Pair]


def name_oneself(r: Random, ask: Ask) -> Turns:
    name = r.choice(TABLES["first_names"]) if r.random() < 0.75 else capitalize(invent_word(r))
    told = (
        f"My name is {name}.|I am {name}.|Hello, I am {name}.|Hi! My name is {name}.|Call me {name}.|I'm {name}."
        f"|Hello! I'm {name}."
    )
    turns = [(r.choice(told.split("|")), f"Nice to meet you, {name}!")]
    turns += [ask(r) for _ in range(r.choice((0, 0, 1, 1, 2, 3)))]
    k = r.random()
    if k < 0.75:
        asked = (
            "What is my name?|Who am I?|Do you remember my name?|What's my name?|Do you know my name?|What was my name?"
        )
        turns.append((r.choice(asked.split("|")), f"Your name is {name}."))
    elif k < 0.88:
        turns.append((r.choice(("Goodbye!", "Bye!")), f"Goodbye, {name}!"))
    else:
        turns.append(("Say hello to me.", f"Hello, {name}!"))
    return turns


def name_favorite(r: Random, ask: Ask) -> Turns:
    food = ("pizza", "soup", "bread", "cake", "rice", "pasta", "salad", "cheese")
    kinds = {
        "color": list(TABLES["colors"]),
        "animal": tales.ANIMALS,
        "number": list(map(str, range(100))),
        "food": food,
        "city": TABLES["lists"]["cities"],
    }
    kind = r.choice(list(kinds))
    liked = r.choice(kinds[kind])
    told = f"My favorite {kind} is {liked}.|My favourite {kind} is {liked}.|I have a favorite {kind}: {liked}."
    turns = [(r.choice(told.split("|")), f"{capitalize(liked)} is a good choice.")]
    turns += [ask(r) for _ in range(r.choice((0, 0, 1, 2)))]
    asked = (
        f"What is my favorite {kind}?|Do you remember my favorite {kind}?|Which {kind} do I like?"
        f"|What is my favourite {kind}?"
    )
    return [*turns, (r.choice(asked.split("|")), f"Your favorite {kind} is {liked}.")]


def follow_story(r: Random, ask: Ask) -> Turns:
    question, story = tales.ask_story_of(r)
    turns = [(question, story.text)]
    k = r.random()
    if k < 0.25:
        turns.append((r.choice((f"Who was {story.name}?", f"Who is {story.name}?")), f"{story.name} was {story.hero}."))
    elif k < 0.5:
        asked = "What was the name in the story?|Who was the story about?|What was the hero's name?|Who is the hero?"
        turns.append((r.choice(asked.split("|")), f"The story was about {story.name}."))
    elif k < 0.75:
        asked = "Another one!|Tell me another one.|Another story, please.|One more!|Again!|Tell me another story."
        turns.append((r.choice(asked.split("|")), tales.write_story(r).text))
    else:
        asked = "That was nice.|I liked that story.|What a nice story!|I like it.|Good story!"
        turns.append(
            r.choice([("Thank you!", "You are welcome!"), (r.choice(asked.split("|")), "I am glad that you liked it.")])
        )
    return turns


def follow_joke(r: Random, ask: Ask) -> Turns:
    number = r.randrange(len(tales.JOKES))
    question, first = tales.ask_joke(r)
    known = [tales.tell_joke(i) for i in range(len(tales.JOKES))]
    number = known.index(first) if first in known else number
    turns = [(question if first in known else "Tell me a joke.", tales.tell_joke(number))]
    steps = range(1, r.choice((2, 2, 3)))
    turns.extend((r.choice(tales.ANOTHER), tales.tell_joke(number + step)) for step in steps)
    if r.random() < 0.4:
        ends = (
            ("Haha!", "I am glad that you liked it!"),
            ("That was funny.", "I am glad that you liked it!"),
            ("That is not funny.", "Sorry, I only know old jokes."),
        )
        turns.append(r.choice(ends))
    return turns


def follow_meaning(r: Random, ask: Ask) -> Turns:
    word, other = r.sample(COMMON, 2)
    turns = [language.ask_noun(r, word)]
    x = named(other)
    for _ in range(r.choice((1, 1, 2))):
        k = r.random()
        if k < 0.4:
            asked = f"And {x}?|And what is {x}?|What about {x}?|How about {x}?|And {other}?"
            turns.append((r.choice(asked.split("|")), NOUNS[other]["sentence"]))
            word, other = other, r.choice(COMMON)
            x = named(other)
        elif k < 0.6:
            asked = "How do you spell it?|How is it spelled?|Spell it.|Can you spell that?|Spell that word."
            turns.append((r.choice(asked.split("|")), f"{spell(word)}."))
        elif k < 0.72:
            asked = "How many letters does it have?|How many letters are in it?|How long is that word?"
            turns.append((r.choice(asked.split("|")), language.count_letters(word)))
        elif k < 0.82 and NOUNS[word]["countable"]:
            plural = pluralize(word)
            turns.append((r.choice(("What is the plural?", "And the plural?")), f"The plural of {word} is {plural}."))
        elif k < 0.9 and NOUNS[word]["cat"] in CATEGORIES and NOUNS[word]["countable"]:
            kind = CATEGORIES[NOUNS[word]["cat"]]
            turns.append((f"Is it {kind}?", f"Yes, {with_article(word)} is {kind}."))
        else:
            asked = "Tell me more.|What else?|More, please.|Can you say more?|Tell me more about it."
            turns.append((r.choice(asked.split("|")), f"That is all I know about the word {word}."))
    return turns


def follow_fact(r: Random, ask: Ask) -> Turns:
    """`And of Spain?` after the capital of France."""
    k = r.random()
    if k < 0.3:
        first, second = r.sample(sorted(OPPOSITES), 2)
        pairs = [(word, f"The opposite of {word} is {OPPOSITES[word]}.") for word in (first, second)]
        asked = r.choice(language.OPPOSITE_FORMS[:4]).format(w=first)
        again = "And of {}?|And {}?|What about {}?"
    elif k < 0.6:
        pairs = [
            (country, f"The capital of {country} is {city.rstrip('.')}.")
            for country, city in r.sample(TABLES["capitals"], 2)
        ]
        asked = f"What is the capital of {pairs[0][0]}?"
        again = "And of {}?|And {}?|What about {}?|And the capital of {}?"
    elif k < 0.75:
        pairs = [(thing, f"{capitalize(thing)} is {color}.") for thing, color in r.sample(facts.COLORED, 2)]
        asked = r.choice(("What color is {}?", "What colour is {}?")).format(pairs[0][0])
        again = "And {}?|What about {}?|And what color is {}?"
    elif k < 0.9:
        words = r.sample(list(language.PLURALS) + language.REGULAR[:200], 2)
        pairs = [(word, f"The plural of {word} is {pluralize(word)}.") for word in words]
        asked = f"What is the plural of {words[0]}?"
        again = "And of {}?|And {}?|What about {}?"
    else:
        i = r.randrange(7)
        days = [facts.DAYS[(i + step) % 7] for step in range(3)]
        pairs = [(days[0], f"{days[1]} comes after {days[0]}."), (days[1], f"{days[2]} comes after {days[1]}.")]
        asked = f"What day comes after {days[0]}?"
        again = "And after {}?|And after that?|And then?"
    return [(asked, pairs[0][1]), (r.choice(again.split("|")).format(pairs[1][0]), pairs[1][1])]


def recall_question(r: Random, ask: Ask) -> Turns:
    turns = [ask(r) for _ in range(r.choice((1, 1, 2)))]
    asked = "What did I ask you?|What was my question?|What did I just say?|Repeat my question.|What did I say?"
    return [*turns, (r.choice(asked.split("|")), f'You said: "{turns[-1][0]}"')]


def change_tone(r: Random, ask: Ask) -> Turns:
    """The user, not the system, asks for a pirate."""
    asked, before, after = r.choice(TABLES["tones"])
    turns = [(r.choice(asked), f"{before}What do you want to know?{after}")]
    return turns + [
        (question, f"{before}{answer}{after}") for question, answer in (ask(r) for _ in range(r.choice((1, 1, 2, 3))))
    ]


def chat(r: Random, ask: Ask) -> Turns:
    """Questions that have nothing to do with each other, now and then after a greeting."""
    turns = [ask(r) for _ in range(r.choice((2, 2, 3, 4)))]
    return [talk.ask_talk(r), *turns] if r.random() < 0.3 else turns


def follow_arithmetic(r: Random, ask: Ask) -> Turns:
    return follow_sum(r)


KINDS = (
    (name_oneself, 15),
    (name_favorite, 9),
    (follow_arithmetic, 18),
    (follow_story, 10),
    (follow_joke, 5),
    (follow_meaning, 16),
    (follow_fact, 12),
    (recall_question, 5),
    (change_tone, 3),
    (chat, 14),
)


def hold_dialog(r: Random, ask: Ask) -> Turns:
    """A conversation; `ask` draws what is asked in between."""
    kinds, weights = zip(*KINDS, strict=True)
    return r.choices(kinds, weights)[0](r, ask)
