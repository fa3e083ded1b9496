r"""Generated quantities with known truth: no wrong one is accepted, and no right one is refused for its notation.

The worth of a quantity is computed from the tables below, in whole numbers, not from the tables of the grader.
"""

import random
from dataclasses import dataclass

import pytest

from verl_efficiency.grading import PoolSettings, configure, grade, shutdown
from verl_efficiency.grading.quantities import compare_quantities

# Dimension: {unit: (size, spellings)}
MEASURES = {
    "length": {
        "mm": (1, ["mm", "millimeters", "millimetres"]),
        "cm": (10, ["cm", "centimeters", "centimetre"]),
        "m": (1000, ["m", "meters", "metres"]),
        "km": (10**6, ["km", "kilometers", "KM"]),
    },
    "time": {
        "s": (1, ["s", "sec", "seconds"]),
        "min": (60, ["min", "minutes", "mins"]),
        "h": (3600, ["h", "hr", "hours", "hrs"]),
        "d": (86400, ["days", "day"]),
    },
    "mass": {
        "g": (1, ["g", "grams"]),
        "kg": (1000, ["kg", "kilograms"]),
        "t": (10**6, ["tonnes"]),
    },
    "area": {
        "cm2": (1, ["cm^2", "square centimeters", "sq cm"]),
        "m2": (10**4, ["m^2", "square meters", "sq m"]),
    },
    "speed": {
        "m/s": (18, ["m/s", "meters per second"]),
        "km/h": (5, ["km/h", "kilometers per hour", "kph"]),
    },
    "money": {"cent": (1, ["cents"]), "dollar": (100, ["dollars", "USD"])},
}
SCALES = {"": 1, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
NOUNS = ["apples", "boxes", "students", "marbles", "pages", "tickets"]
OPPOSITES = [("north", "south"), ("a.m.", "p.m."), ("clockwise", "counterclockwise"), ("profit", "loss"), ("N", "S")]


@dataclass(frozen=True)
class Written:
    """A quantity as text, and its worth: (dimension, size in the smallest unit)."""

    text: str
    worth: tuple[str, int]


def in_print(number: str, words: str, generator: random.Random) -> str:
    """Number and words as models print them."""
    power = ""
    if words.endswith("^2"):
        words, power = words[:-2], "^2"
    styles = [
        rf"{number}\text{{ {words}}}{power}",
        rf"{number} \text{{ {words}}}{power}",
        rf"{number}\ \mathrm{{{words.replace(' ', '~')}}}{power}",
        rf"{number} \mbox{{ {words} }}{power}",
        f"{number} {words}{power}",
        rf"\text{{{number} {words}}}{power}",
    ]
    return generator.choice(styles)


def quantity(generator: random.Random, dimension: str, values: int = 40) -> Written:
    size, spellings = MEASURES[dimension][generator.choice(list(MEASURES[dimension]))]
    value = generator.randint(1, values)
    return Written(in_print(str(value), generator.choice(spellings), generator), (dimension, value * size))


def in_parts(generator: random.Random) -> Written:
    """2 h 30 min, with one of the usual joints."""
    dimension = generator.choice(["length", "time", "mass"])
    larger, smaller = sorted(generator.sample(list(MEASURES[dimension].values()), 2), reverse=True)
    first, second = generator.randint(1, 4), generator.randint(1, 9)
    joint = generator.choice([" ", r" \text{ and } ", ", ", r"\ "])
    texts = [rf"{value}\text{{ {generator.choice(unit[1])} }}" for value, unit in ((first, larger), (second, smaller))]
    return Written(joint.join(texts), (dimension, first * larger[0] + second * smaller[0]))


def decided(answer: str, gold: str) -> bool:
    return grade(answer, gold, deadline=20).correct


@pytest.fixture(autouse=True, scope="module")
def pool():
    configure(PoolSettings(workers=1))
    yield
    shutdown()


def test_1500_pairs_with_units():
    """Equal where dimension and size are equal, in any spelling and font."""
    generator = random.Random(1)
    equal = 0
    for _ in range(1500):
        dimension = generator.choice(list(MEASURES))
        other = dimension if generator.random() < 0.8 else generator.choice(list(MEASURES))
        make = [quantity(generator, dimension, 12), quantity(generator, other, 12)]
        if generator.random() < 0.3:
            make[0] = Written(quantity_like(make[1], generator), make[1].worth)
        answer, gold = make
        truth = answer.worth == gold.worth
        equal += truth
        assert decided(answer.text, gold.text) is truth, (answer, gold)
    assert equal > 450


def quantity_like(written: Written, generator: random.Random) -> str:
    """The same quantity in a unit that divides it."""
    dimension, size = written.worth
    fitting = [(factor, names) for factor, names in MEASURES[dimension].values() if size % factor == 0]
    factor, names = generator.choice(fitting)
    return in_print(str(size // factor), generator.choice(names), generator)


def test_500_quantities_in_parts():
    generator = random.Random(2)
    equal = 0
    for _ in range(500):
        gold = in_parts(generator)
        answer = (
            in_parts(generator) if generator.random() < 0.5 else Written(quantity_like(gold, generator), gold.worth)
        )
        truth = answer.worth == gold.worth
        equal += truth
        assert decided(answer.text, gold.text) is truth, (answer, gold)
        assert decided(gold.text, answer.text) is truth, (answer, gold)
    assert equal > 200


def test_300_lists():
    """A list of one dimension is the same in any order. One value more, fewer or different makes it wrong."""
    generator = random.Random(3)
    for _ in range(300):
        dimension = generator.choice(["length", "area", "speed", "mass"])
        golds = list({item.worth: item for item in (quantity(generator, dimension) for _ in range(3))}.values())
        if len(golds) < 2:
            continue
        joint = generator.choice([", ", r" \text{ and } ", " and ", "; ", r"\text{, }"])
        gold = joint.join(item.text for item in golds)
        same = [quantity_like(item, generator) for item in generator.sample(golds, len(golds))]
        another = quantity(generator, dimension)
        wrong = [golds[0].text, ", ".join([*same, another.text]), ", ".join(same[:-1])]
        if another.worth not in [item.worth for item in golds]:
            wrong.append(", ".join([*same[:-1], another.text]))
        assert decided(", ".join(same), gold), (same, gold)
        for answer in wrong:
            assert not decided(answer, gold), (answer, gold)


def test_1000_scales():
    generator = random.Random(4)
    for _ in range(1000):
        (word, size), (other, other_size) = generator.choices(list(SCALES.items()), k=2)
        value = generator.randint(1, 30)
        other_value = generator.choice([value, value * size // other_size or 1, generator.randint(1, 30)])
        answer = in_print(str(value), word, generator) if word else str(value)
        gold = in_print(str(other_value), other, generator) if other else f"{other_value:,}"
        assert decided(answer, gold) is (value * size == other_value * other_size), (answer, gold)


def test_1000_nouns_and_opposites():
    """A noun never decides, and opposites always do, unless one side leaves the word out."""
    generator = random.Random(5)
    for _ in range(1000):
        value, other_value = generator.randint(1, 12), generator.randint(1, 12)
        degrees = r"^\circ" if generator.random() < 0.5 else ""
        pair = generator.choice(OPPOSITES[:-1] if not degrees else OPPOSITES)
        kinds = [generator.choice([*pair, "", generator.choice(NOUNS)]) for _ in range(2)]
        texts = [
            rf"{number}{degrees}\text{{ {kind}}}" if kind else f"{number}{degrees}"
            for number, kind in zip((value, other_value), kinds, strict=True)
        ]
        truth = value == other_value and set(kinds) != set(pair)
        assert decided(*texts) is truth, texts


def test_4000_jumbles_of_words_are_read_in_bounded_time():
    """No exception, no endless text, and never ``True`` in one direction only."""
    generator = random.Random(6)
    pieces = [
        "5",
        "18",
        "1,000",
        "0.5",
        "cm",
        " ",
        " km/h",
        "^2",
        "^{-1}",
        "/",
        " per ",
        "\\text{",
        "}",
        " and ",
        ", ",
        "(",
        ")",
    ]
    pieces += [
        " or ",
        "\\$",
        "€",
        " million",
        " if ",
        " even",
        "a.m.",
        "^\\circ",
        "'",
        "\\cdot",
        "x",
        "\\frac{1}{2}",
        "元",
        "%",
        ":30",
    ]
    for _ in range(4000):
        left, right = ("".join(generator.choices(pieces, k=generator.randint(1, 12))) for _ in range(2))
        verdict, answer, gold = compare_quantities(left, right)
        assert verdict in (True, False, None)
        assert len(answer) < 400
        assert len(gold) < 400
        assert compare_quantities(left, left)[0] is not False, left
        assert (verdict is True) is (compare_quantities(right, left)[0] is True), (left, right)
