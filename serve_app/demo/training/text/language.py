"""Questions about words: what they mean, how they are spelled, their letters, opposites, plurals and past tenses."""

from __future__ import annotations

from serve_app.demo.training.text.words import (
    ADJECTIVE_LIST,
    ADJECTIVES,
    BY_CATEGORY,
    CATEGORIES,
    COMMON,
    NOUN_LIST,
    NOUNS,
    OPPOSITES,
    PLURALS,
    TABLES,
    UNKNOWN,
    VERB_LIST,
    VERBS,
    Pair,
    Random,
    capitalize,
    invent_word,
    named,
    pluralize,
    settle,
    spell,
    with_article,
)

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NOUN_FORMS = (
    "What is {x}?|What is {x}?|What is {x}?|What's {x}?|Define {w}.|Define {w}.|What does {w} mean?"
    "|What does the word {w} mean?|Explain the word {w}.|What is the meaning of {w}?|Do you know what {x} is?"
    "|Tell me what {x} is.|Can you tell me what {x} is?|Explain {x}.|Tell me about {x}.|Describe {x}.|What is {w}?"
    "|I want to know what {x} is.|definition of {w}|{W}?|What exactly is {x}?|Please explain what {x} is."
    "|Can you explain {x}?|Can you explain what {x} is?|Explain to me what {x} is.|What do you know about {x}?"
    "|Give me a definition of {w}.|Tell me something about {x}.|Do you know {x}?|Do you know the word {w}?"
    "|Could you define {w}?|{w}"
).split("|")
PLURAL_FORMS = (
    "Tell me about {p}.|Tell me about {p}.|What are {p}?|What are {p}?|Explain {p}.|What do you know about {p}?"
    "|Can you explain {p}?|Describe {p}.|Tell me something about {p}.|Do you know {p}?|Do you know what {p} are?"
    "|Tell me what {p} are.|{P}?|Can you tell me about {p}?"
).split("|")
HELD_OUT_FORMS = (
    "Could you tell me what {x} is?",
    "Please tell me about {p}.",
    "Please define {w} for me.",
    "So what is {x}?",
)
"""Ways to ask that are never trained."""
VERB_FORMS = (
    "What does to {w} mean?|What does to {w} mean?|What does it mean to {w}?|Define the verb {w}.|Explain the verb {w}."
    "|What is the meaning of the verb {w}?|What does the verb {w} mean?"
).split("|")
PLAIN_FORMS = "What does {w} mean?|Define {w}.|What is the meaning of {w}?|What does the word {w} mean?".split("|")
ADJECTIVE_FORMS = "What does the adjective {w} mean?|Define the adjective {w}.".split("|")
SPELLED = COMMON + sorted(OPPOSITES) + list(TABLES["colors"])


def ask_noun(r: Random, word: str | None = None) -> Pair:
    """What a noun means, in one of many forms."""
    word = word or r.choice(COMMON if r.random() < 0.35 else NOUN_LIST)
    use_plural = NOUNS[word]["countable"] and r.random() < 0.28
    form = r.choice(PLURAL_FORMS if use_plural else NOUN_FORMS)
    return fill_form(form, word), NOUNS[word]["sentence"]


def fill_form(form: str, word: str) -> str:
    plural = pluralize(word)
    return form.format(x=named(word), w=word, W=capitalize(word), p=plural, P=capitalize(plural))


def ask_meaning(r: Random) -> Pair:
    k = r.random()
    if k < 0.76:
        return ask_noun(r)
    if k < 0.89:
        word = r.choice(VERB_LIST)
        forms = VERB_FORMS + ([] if word in NOUNS else PLAIN_FORMS)
        return r.choice(forms).format(w=word), VERBS[word]["sentence"]
    word = r.choice(ADJECTIVE_LIST)
    forms = ADJECTIVE_FORMS + ([] if word in NOUNS or word in VERBS else PLAIN_FORMS * 2)
    return r.choice(forms).format(w=word), ADJECTIVES[word]["sentence"]


def ask_unknown_word(r: Random) -> Pair:
    """Words it does not know, and says so."""
    word = r.choice(UNKNOWN) if r.random() < 0.6 else invent_word(r)
    forms = (
        f"What is {with_article(word)}?|What is {word}?|Define {word}.|What does {word} mean?|Tell me about {word}."
        f"|What does the word {word} mean?|Explain {word}.|What are {word}s?|Tell me about {word}s."
        f"|Can you explain {word}?"
        f"|Do you know what {with_article(word)} is?|What is {with_article(word)}?|What do you know about {word}?"
    )
    return r.choice(forms.split("|")), f"I do not know the word {word}. I am a very small model."


def ask_spelling(r: Random) -> Pair:
    word = r.choice(SPELLED if r.random() < 0.85 else NOUN_LIST)
    k = r.random()
    if k < 0.42:
        forms = (
            f"Spell {word}.|How do you spell {word}?|Spell the word {word}.|Can you spell {word}?|Please spell {word}."
            f"|How is {word} spelled?|How do I spell {word}?|Spell {word} for me.|What is the spelling of {word}?"
        )
        return r.choice(forms.split("|")), f"{spell(word)}."
    if k < 0.68:
        return r.choice(LENGTH_FORMS).format(w=word), count_letters(word)
    if k < 0.80:
        letter = r.choice(word) if r.random() < 0.8 else r.choice(LETTERS).lower()
        return r.choice(OCCURRENCE_FORMS).format(w=word, l=r.choice((letter, letter.upper()))), count_letter(
            word, letter
        )
    if k < 0.88:
        forms = (
            f"What is the first letter of {word}?|Which letter does {word} start with?"
            f"|What letter does {word} begin with?"
        )
        return r.choice(forms.split("|")), f"The first letter of {word} is {word[0].upper()}."
    if k < 0.94:
        forms = f"What is the last letter of {word}?|Which letter does {word} end with?"
        return r.choice(forms.split("|")), f"The last letter of {word} is {word[-1].upper()}."
    if k < 0.96:
        return r.choice((f"Spell {word} backwards.", f"Write {word} backwards.")), f"{spell(word[::-1])}."
    i = r.randrange(25)
    if k < 0.98:
        return r.choice(("Say the alphabet.", "What is the alphabet?", "Write the alphabet.")), ", ".join(LETTERS) + "."
    if r.random() < 0.5:
        return f"Which letter comes after {LETTERS[i]}?", f"{LETTERS[i + 1]} comes after {LETTERS[i]}."
    return f"Which letter comes before {LETTERS[i + 1]}?", f"{LETTERS[i]} comes before {LETTERS[i + 1]}."


LENGTH_FORMS = (
    "How many letters does {w} have?|How many letters does {w} have?|How many letters are in {w}?"
    "|How long is the word {w}?|How many letters does the word {w} have?|How many letters are in the word {w}?"
    "|Count the letters of {w}.|Count the letters in {w}.|How many letters has {w}?"
).split("|")
OCCURRENCE_FORMS = (
    "How many {l} are in {w}?|How many {l}s are in {w}?|How many {l}'s are in {w}?|How many times is {l} in {w}?"
    "|How often is the letter {l} in {w}?|How many times does the letter {l} appear in {w}?"
    "|How many {l}'s are in the word {w}?|How many times does {w} have the letter {l}?"
).split("|")


def count_letters(word: str) -> str:
    return f"{capitalize(word)} has {len(word)} letters: {spell(word)}."


def count_letter(word: str, letter: str) -> str:
    count = word.count(letter.lower())
    often = {0: "no", 1: "one", 2: "two", 3: "three", 4: "four"}.get(count, str(count))
    return f"{spell(word)} has {often} {letter.upper()}."


REGULAR = [
    word
    for word in COMMON
    if NOUNS[word]["countable"]
    and not word.endswith(("f", "fe", "o", "man", "men", "is", "us", "um", "a", "ois", "people"))
]
OPPOSITE_FORMS = (
    "What is the opposite of {w}?|What is the opposite of {w}?|What's the opposite of {w}?|Opposite of {w}?"
    "|Tell me the opposite of {w}.|Which word is the opposite of {w}?|Give me the opposite of {w}."
    "|What is an antonym of {w}?|{W} is the opposite of what?"
).split("|")
PLURALIZE_FORMS = (
    "What is the plural of {w}?|What's the plural of {w}?|Plural of {w}?|One {w}, two what?|Give me the plural of {w}."
    "|What is the plural form of {w}?"
).split("|")
PAST_FORMS = (
    "What is the past tense of {w}?|Past tense of {w}?|What is the past of {w}?|Give me the past tense of the verb {w}."
    "|What is the past form of {w}?"
).split("|")
SENTENCES = ("I saw {x} near the old bridge.", "There is {x} in this story.", "Yesterday we talked about {x}.")


def ask_opposite(r: Random) -> Pair:
    word = r.choice(sorted(OPPOSITES))
    return r.choice(OPPOSITE_FORMS).format(w=word, W=capitalize(word)), f"The opposite of {word} is {OPPOSITES[word]}."


def ask_plural(r: Random) -> Pair:
    word = r.choice(list(PLURALS) if r.random() < 0.4 else REGULAR)
    if r.random() < 0.15:
        plural = pluralize(word)
        return r.choice(
            (f"What is the singular of {plural}?", f"Singular of {plural}?")
        ), f"The singular of {plural} is {word}."
    return r.choice(PLURALIZE_FORMS).format(w=word), f"The plural of {word} is {pluralize(word)}."


def ask_past(r: Random) -> Pair:
    present, past = r.choice(TABLES["past_tenses"])
    return r.choice(PAST_FORMS).format(w=present), f"The past tense of {present} is {past}."


def ask_category(r: Random) -> Pair:
    category = r.choice(("animal", "animal", "animal", "food", "plant", "artifact", "person", "body"))
    word = r.choice(BY_CATEGORY[category])
    x = with_article(word)
    if r.random() < 0.1:
        return r.choice((f"Use the word {word} in a sentence.", f"Make a sentence with {word}.")), settle(
            SENTENCES, word
        ).format(x=x)
    asked = category if r.random() < 0.45 else r.choice([each for each in CATEGORIES if each != category])
    name = CATEGORIES[asked]
    question = r.choice((f"Is {x} {name}?", f"Is {x} {name}?", f"Would you say that {x} is {name}?"))
    if asked == category:
        return question, f"Yes, {x} is {name}."
    return question, f"No, {x} is not {name}. It is {CATEGORIES[category]}."


def ask_word(r: Random) -> Pair:
    return r.choices((ask_opposite, ask_plural, ask_past, ask_category), (34, 22, 18, 26))[0](r)
