"""Questions about the world: colours, capitals, days and months, animals, and what children learn early."""

from __future__ import annotations

from serve_app.demo.training.text.words import TABLES, Pair, Random, capitalize, in_words, pluralize, with_article

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
MONTH_DAYS = dict(zip(MONTHS, (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))
PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split()
COLORED = [(thing, color) for color, things in TABLES["colors"].items() for thing in things]


def ask_color(r: Random) -> Pair:
    thing, color = r.choice(COLORED)
    forms = (
        f"What color is {thing}?|What colour is {thing}?|Which color does {thing} have?|What is the color of {thing}?"
        f"|Do you know the color of {thing}?|Which color is {thing}?"
    )
    return r.choice(forms.split("|")), f"{capitalize(thing)} is {color}."


def ask_capital(r: Random) -> Pair:
    country, city = r.choice(TABLES["capitals"])
    end = "" if city.endswith(".") else "."
    if r.random() < 0.2:
        return r.choice((f"Where is {city}?", f"In which country is {city}?")), f"{city} is the capital of {country}."
    forms = (
        f"What is the capital of {country}?|What is the capital of {country}?|What's the capital of {country}?"
        f"|Capital of {country}?|Which city is the capital of {country}?|Name the capital of {country}."
        f"|Tell me the capital of {country}.|Do you know the capital of {country}?"
    )
    return r.choice(forms.split("|")), f"The capital of {country} is {city}{end}"


def ask_day(r: Random) -> Pair:
    i = r.randrange(7)
    day, after, before = DAYS[i], DAYS[(i + 1) % 7], DAYS[i - 1]
    k = r.random()
    if k < 0.4:
        forms = (
            f"What day comes after {day}?|What comes after {day}?|Which day comes after {day}?|Which day follows {day}?"
        )
        return r.choice(forms.split("|")), f"{after} comes after {day}."
    if k < 0.65:
        forms = f"What day comes before {day}?|Which day is before {day}?|What comes before {day}?"
        return r.choice(forms.split("|")), f"{before} comes before {day}."
    if k < 0.85:
        return f"If today is {day}, what day is tomorrow?", f"If today is {day}, tomorrow is {after}."
    return f"If today is {day}, what day was yesterday?", f"If today is {day}, yesterday was {before}."


def ask_month(r: Random) -> Pair:
    i = r.randrange(12)
    month, after, before = MONTHS[i], MONTHS[(i + 1) % 12], MONTHS[i - 1]
    k = r.random()
    if k < 0.35:
        forms = f"What month comes after {month}?|What comes after {month}?|Which month comes after {month}?"
        return r.choice(forms.split("|")), f"{after} comes after {month}."
    if k < 0.6:
        forms = f"Which month is before {month}?|What month comes before {month}?|What comes before {month}?"
        return r.choice(forms.split("|")), f"{before} comes before {month}."
    if k < 0.85:
        end = ", or 29 in a leap year." if month == "February" else "."
        return f"How many days does {month} have?", f"{month} has {MONTH_DAYS[month]} days{end}"
    return f"Which month of the year is {month}?", f"{month} is month number {i + 1} of the year."


def ask_animal(r: Random) -> Pair:
    k = r.random()
    if k < 0.2:
        animal, sound = r.choice(TABLES["sounds"])
        x = with_article(animal)
        forms = (
            f"What sound does {x} make?|What does {x} say?|What noise does {x} make?"
            f"|What sound do {pluralize(animal)} make?"
        )
        return r.choice(forms.split("|")), f"{capitalize(x)} {sound}."
    if k < 0.4:
        animal, young = r.choice(TABLES["babies"])
        forms = (
            f"What is a baby {animal} called?|What do you call a young {animal}?|What is the name of a baby {animal}?"
        )
        return r.choice(forms.split("|")), f"A young {animal} is called {with_article(young)}."
    if k < 0.6:
        animal, home = r.choice(TABLES["homes"])
        x = with_article(animal)
        return r.choice(
            (f"Where does {x} live?", f"Where do {pluralize(animal)} live?")
        ), f"{capitalize(x)} lives {home}."
    if k < 0.8:
        animal, food = r.choice(TABLES["eats"])
        x, many = with_article(animal), pluralize(animal)
        forms = f"What does {x} eat?|What do {many} eat?|What food does {x} like?|What do {many} like to eat?"
        return r.choice(forms.split("|")), f"{capitalize(x)} eats {food}."
    animal, legs = r.choice(list(TABLES["legs"].items()))
    x = with_article(animal)
    forms = f"How many legs does {x} have?|How many legs has {x}?|How many legs do {pluralize(animal)} have?"
    end = ", but eight arms." if animal == "octopus" else "."
    return r.choice(forms.split("|")), f"{capitalize(x)} has {in_words(legs) if legs else 'no'} legs{end}"


def ask_planet(r: Random) -> Pair:
    i = r.randrange(7)
    return f"Which planet comes after {PLANETS[i]}?", f"{PLANETS[i + 1]} comes after {PLANETS[i]}, seen from the sun."


def ask_known_fact(r: Random) -> Pair:
    question, answer = r.choice(TABLES["facts"])
    return question, answer


def ask_fact(r: Random) -> Pair:
    kinds = (ask_known_fact, ask_color, ask_capital, ask_day, ask_month, ask_animal, ask_planet)
    return r.choices(kinds, (24, 15, 16, 11, 11, 22, 1))[0](r)
