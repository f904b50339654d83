"""Questions about numbers: sums, differences, products, comparisons, counting. A tenth of all sums is held out."""

from __future__ import annotations

from serve_app.demo.training.text.words import TABLES, Pair, Random, in_words

GOODS = "apples pears coins books balls stones cookies stamps eggs cards".split()
ADD_FORMS = (
    "What is {a} + {b}?|What is {a} + {b}?|What is {a} + {b}?|{a} + {b}|{a}+{b}|{a} + {b} = ?|{a}+{b}=?|{a} + {b} ="
    "|What is {a} plus {b}?|Add {a} and {b}.|Add {b} to {a}.|How much is {a} + {b}?|How much is {a} plus {b}?"
    "|Calculate {a} + {b}.|What is the sum of {a} and {b}?|What's {a}+{b}?|{a} plus {b}|What does {a} + {b} make?"
    "|What do you get if you add {a} and {b}?"
).split("|")
SUBTRACT_FORMS = (
    "What is {a} - {b}?|What is {a} - {b}?|{a} - {b}|{a}-{b}|What is {a} minus {b}?|Subtract {b} from {a}."
    "|How much is {a} - {b}?|{a} - {b} = ?|{a} minus {b}|Calculate {a} - {b}.|Take {b} away from {a}."
    "|What is the difference between {a} and {b}?|What's {a}-{b}?"
).split("|")
MULTIPLY_FORMS = (
    "What is {a} * {b}?|What is {a} times {b}?|{a} * {b}|{a} x {b}|{a}*{b}|Multiply {a} by {b}."
    "|How much is {a} times {b}?|{a} times {b}|What is {a} x {b}?|Calculate {a} * {b}.|What's {a} times {b}?"
    "|What is the product of {a} and {b}?"
).split("|")
DIVIDE_FORMS = (
    "What is {p} / {b}?|What is {p} divided by {b}?|Divide {p} by {b}.|{p} / {b}|How much is {p} / {b}?".split("|")
)


def is_held_out(a: int, b: int) -> bool:
    """Whether `a` and `b` are never added or subtracted in training."""
    a, b = min(a, b), max(a, b)
    return (a * 7919 + b * 104729 + 13) % 10 == 0 and a > 9


def draw_numbers(r: Random) -> tuple[int, int]:
    """Two numbers below 1,000 that are not held out."""
    while True:
        limit = r.choice((10, 20, 100, 100, 1000, 1000, 1000))
        a, b = r.randrange(limit), r.randrange(r.choice((limit, limit, min(limit, 100))))
        if not is_held_out(a, b):
            return a, b


def write_number(r: Random, number: int) -> str:
    """Digits, and small numbers now and then in words."""
    return in_words(number) if number <= 20 and r.random() < 0.1 else str(number)


def ask_addition(r: Random) -> Pair:
    a, b = draw_numbers(r)
    total = a + b
    if r.random() < 0.86:
        return r.choice(ADD_FORMS).format(a=write_number(r, a), b=write_number(r, b)), f"{a} + {b} = {total}."
    (name, other), goods = r.sample(TABLES["first_names"], 2), r.choice(GOODS)
    if r.random() < 0.6:
        verb = r.choice(("gets", "finds", "buys"))
        asked = f"{name} has {a} {goods} and {verb} {b} more. How many {goods} does {name} have?"
        return asked, f"{a} + {b} = {total}, so {name} has {total} {goods}."
    asked = f"{name} has {a} {goods} and {other} has {b} {goods}. How many {goods} do they have together?"
    return asked, f"{a} + {b} = {total}, so they have {total} {goods} together."


def ask_subtraction(r: Random) -> Pair:
    a, b = draw_numbers(r)
    a, b = max(a, b), min(a, b)
    if r.random() < 0.86:
        return r.choice(SUBTRACT_FORMS).format(a=write_number(r, a), b=write_number(r, b)), f"{a} - {b} = {a - b}."
    name, goods = r.choice(TABLES["first_names"]), r.choice(GOODS)
    verb = r.choice(("gives away", "loses", "sells"))
    asked = f"{name} has {a} {goods} and {verb} {b}. How many {goods} are left?"
    return asked, f"{a} - {b} = {a - b}, so {a - b} {goods} are left."


def ask_product(r: Random) -> Pair:
    a, b = r.randint(0, 12), r.randint(0, 12)
    if r.random() < 0.2:
        a = r.choice((10, 15, 20, 25, 30, 40, 50, 60, 100))
    k = r.random()
    if k < 0.66:
        return r.choice(MULTIPLY_FORMS).format(a=write_number(r, a), b=write_number(r, b)), f"{a} * {b} = {a * b}."
    if k < 0.84:
        a, b = max(a, 1), max(b, 1)
        return r.choice(DIVIDE_FORMS).format(p=a * b, b=b), f"{a * b} / {b} = {a}."
    n = r.randrange(100)
    if k < 0.90:
        return r.choice(
            (f"What is half of {2 * n}?", f"Half of {2 * n}?", f"Halve {2 * n}.")
        ), f"Half of {2 * n} is {n}."
    if k < 0.96:
        return r.choice((f"What is twice {n}?", f"Double {n}.", f"What is double {n}?")), f"Twice {n} is {2 * n}."
    goods, n, m = r.choice(GOODS), r.randint(2, 10), r.randint(2, 10)
    asked = f"There are {n} boxes with {m} {goods} each. How many {goods} are there?"
    return asked, f"{n} * {m} = {n * m}, so there are {n * m} {goods}."


def ask_comparison(r: Random) -> Pair:
    a, b = r.sample(range(r.choice((20, 100, 1000))), 2)
    k = r.random()
    if k < 0.3:
        asked = f"Which is larger, {a} or {b}?|Which number is bigger: {a} or {b}?|Which number is larger, {a} or {b}?"
        return r.choice(asked.split("|")), f"{max(a, b)} is larger than {min(a, b)}."
    if k < 0.45:
        asked = f"Which is smaller, {a} or {b}?|Which number is smaller: {a} or {b}?|Which is less, {a} or {b}?"
        return r.choice(asked.split("|")), f"{min(a, b)} is smaller than {max(a, b)}."
    if k < 0.6:
        word = r.choice(("larger", "bigger", "greater", "more"))
        return f"Is {a} {word} than {b}?", f"Yes, {a} is larger than {b}." if a > b else f"No, {a} is smaller than {b}."
    if k < 0.7:
        word = r.choice(("smaller", "less"))
        return f"Is {a} {word} than {b}?", f"Yes, {a} is smaller than {b}." if a < b else f"No, {a} is larger than {b}."
    if k < 0.85:
        parity = "odd" if a % 2 else "even"
        asked = f"Is {a} even or odd?|Is {a} an even number?|Is {a} an odd number?|Is {a} even?|Is {a} odd?"
        return r.choice(asked.split("|")), f"{a} is {parity}."
    if k < 0.95:
        asked = f"Write {a} in words.|How do you write {a} in words?|Spell the number {a}."
        return r.choice(asked.split("|")), f"{a} is {in_words(a)}."
    a, b, c = r.sample(range(100), 3)
    return f"Sort {a}, {b} and {c}.", "{}, {}, {}.".format(*sorted((a, b, c)))


def ask_too_much(r: Random) -> Pair:
    """Numbers that are too large for it."""
    a, b = r.randint(2000, 10 ** r.randint(4, 8)), r.randint(20, 10 ** r.randint(2, 8))
    asked = f"What is {a} + {b}?|{a} * {b}|What is {a} times {b}?|{a} + {b}|What is {a} - {b}?|What is {b} + {a}?"
    return r.choice(asked.split("|")), "That is too much for me: I calculate with numbers below 1,000."


def ask_counting(r: Random) -> Pair:
    k = r.random()
    if k < 0.45:
        a = r.choice((1, 1, 1, r.randint(1, 40)))
        b = a + r.randint(2, 14) if r.random() < 0.7 else r.randint(a + 2, 100)
        asked = [f"Count from {a} to {b}.", f"Please count from {a} to {b}."]
        asked += [f"Can you count to {b}?", f"Count to {b}."] if a == 1 else []
        return r.choice(asked), ", ".join(map(str, range(a, b + 1))) + "."
    if k < 0.6:
        b = r.randint(2, 15)
        asked = f"Count down from {b}.|Count backwards from {b}.|Count from {b} down to 1."
        return r.choice(asked.split("|")), ", ".join(map(str, range(b, 0, -1))) + "."
    n = r.randint(0, 998)
    if k < 0.7:
        return r.choice((f"What comes after {n}?", f"Which number comes after {n}?")), f"{n + 1} comes after {n}."
    if k < 0.8:
        asked = (f"What number comes before {n + 1}?", f"What comes before {n + 1}?")
        return r.choice(asked), f"{n} comes before {n + 1}."
    step, times = r.choice((2, 3, 4, 5, 10)), r.randint(4, 9)
    return f"Count by {step}s to {step * times}.", ", ".join(str(step * i) for i in range(1, times + 1)) + "."


def ask_sum(r: Random) -> Pair:
    kinds = (ask_addition, ask_subtraction, ask_product, ask_comparison, ask_counting, ask_too_much)
    return r.choices(kinds, (42, 22, 17, 10, 7, 2))[0](r)


def follow_sum(r: Random) -> list[Pair]:
    """A sum, and one to three more steps from its result."""
    a, b = draw_numbers(r)
    sign, value, asked = "+", a + b, r.choice(ADD_FORMS).format(a=a, b=b)
    if r.random() < 0.25:
        a, b = max(a, b), min(a, b)
        sign, value, asked = "-", a - b, r.choice(SUBTRACT_FORMS).format(a=a, b=b)
    if r.random() < 0.15:
        a, b = r.randint(1, 12), r.randint(1, 12)
        sign, value, asked = "*", a * b, r.choice(MULTIPLY_FORMS).format(a=a, b=b)
    turns = [(asked, f"{a} {sign} {b} = {value}.")]
    for _ in range(r.choice((1, 1, 2, 3))):
        asked, answer, value = _go_on(r, value)
        turns.append((asked, answer))
    return turns


def _go_on(r: Random, value: int) -> tuple[str, str, int]:
    if r.random() < 0.35 and value <= 200:
        n = r.randint(2, 10) if value <= 12 else r.choice((2, 2, 3, 10))
        word = {2: r.choice(("two", "2", "2")), 3: r.choice(("three", "3"))}.get(n, str(n))
        forms = [
            "And times {n}?",
            "Times {n}?",
            "Multiply that by {n}.",
            "And now times {n}?",
            "Now multiply it by {n}.",
        ]
        forms += ["Double it.", "And twice that?", "Double that."] if n == 2 else []
        return r.choice(forms).format(n=word), f"{value} * {n} = {value * n}.", value * n
    if r.random() < 0.2 and value % 2 == 0:
        forms = ("And half of that?", "Half of that?", "Divide it by two.", "And divided by 2?", "Divide that by 2.")
        return r.choice(forms), f"{value} / 2 = {value // 2}.", value // 2
    n = r.randrange(r.choice((10, 20, 100)))
    while is_held_out(value, n):
        n = r.randrange(100)
    if r.random() < 0.6 or n > value:
        forms = (
            "And plus {n}?",
            "Plus {n}?",
            "Add {n} to that.",
            "And {n} more?",
            "Now add {n}.",
            "And + {n}?",
            "Add {n}.",
        )
        return r.choice(forms).format(n=write_number(r, n)), f"{value} + {n} = {value + n}.", value + n
    forms = ("Minus {n}?", "And minus {n}?", "Subtract {n} from that.", "Now take away {n}.", "And minus {n} now?")
    return r.choice(forms).format(n=write_number(r, n)), f"{value} - {n} = {value - n}.", value - n
