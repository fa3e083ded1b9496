r"""Read a text as quantities: values with the words after them. One quantity, several, or one in several parts."""

import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise

from verl_efficiency.grading.quantity_tokens import Token, brackets_around, items_of, without_layout
from verl_efficiency.grading.quick import MAX_CHARS, Number, read_number
from verl_efficiency.grading.words import (
    CHANGERS,
    CONDITIONS,
    COUNTED,
    DIRECTIONS,
    FILLERS,
    MATHEMATICS,
    PER,
    POWERS_AFTER,
    POWERS_BEFORE,
    SCALES_OF_MONEY,
    TEMPERATURES,
    Unit,
    changes,
    is_noun,
    products,
    qualifier,
    scale_of,
    units_named,
)

MAX_PARTS = 16
MAX_POWER = 9  # of a unit
CLOCK = re.compile(r"([0-9]{1,2})(?:[:.]([0-5][0-9])(?::([0-5][0-9]))?)?")  # 7:30, 7.30, 7:30:15
_SAME_SIGNS = {"\\geq": "\\ge", "\\leq": "\\le", "\\neq": "\\ne"}
_RELATIONS = frozenset(("=", "<", ">", "\\ge", "\\le", "\\ne", "\\in", "\\equiv", "is", "equals", *_SAME_SIGNS))
# Units that need no blank between them and the number: 5cm.
_NEED_NO_SPACE = frozenset(
    [
        "cm",
        "mm",
        "km",
        "kg",
        "ft",
        "ml",
        "mL",
        "hr",
        "hrs",
        "min",
        "mins",
        "sec",
        "secs",
        "lb",
        "lbs",
        "oz",
        "mph",
        "kph",
    ]
)
_ONE_LETTER = frozenset("msghlLd")  # letters that are units after a number, as for math-verify: 5 m
_ONE_LETTER_AFTER_SPACE = frozenset("NVWJ")  # 20 N; but 20N is most likely a product


@dataclass(frozen=True)
class Part:
    """One quantity.

    Attributes:
        value: its mathematics, as LaTeX.
        number: the value times the scale, where the value is a plain number.
        scale: what words multiply the value by; a million for ``5 million``.
        units: the meanings of its unit; empty where it has none.
        tops: the same without ``per …``; empty without a ``per``.
        nouns, qualifiers, changers: the other words, see :mod:`verl_efficiency.grading.words`.
        condition: what follows ``if``, ``for``, …, without blanks and fillers.
        label: the words before the value.
        named: a colon or an equality sign follows the label.
        also: for 2 h 30 min, whose ``number`` counts minutes, the value in hours.
        worded: words or a currency stand beside the value.
    """

    value: str
    number: Number | None = None
    scale: Fraction = Fraction(1)
    units: tuple[Unit, ...] = ()
    tops: tuple[Unit, ...] = ()
    nouns: frozenset[str] = frozenset()
    qualifiers: frozenset[tuple[int, str]] = frozenset()
    changers: frozenset[str] = frozenset()
    condition: str = ""
    label: str = ""
    named: bool = False
    also: tuple[Fraction, ...] = ()
    worded: bool = False

    @property
    def name(self) -> tuple[object, ...]:
        """What distinguishes it from the other quantities of a list."""
        return self.label, self.condition, self.nouns, self.qualifiers


@dataclass(frozen=True)
class Reading:
    """The quantities of a text, the brackets around them, and whether a bare word may be a product of letters."""

    parts: tuple[Part, ...]
    brackets: tuple[str, str]
    guessed: bool

    @property
    def worded(self) -> bool:
        return any(part.worded for part in self.parts)


class _Opaque(Exception):
    """The text holds something other than quantities."""


def read_quantities(text: str) -> Reading | None:
    r"""The quantities that ``text`` holds, or ``None`` if it holds something else.

    >>> [part.value for part in read_quantities(r"15\text{ km/h and }3\text{ km/h}").parts]
    ['15', '3']
    >>> read_quantities(r"3 \text{ cm} + 2x") is None
    True
    """
    if len(text) > MAX_CHARS or "\\begin" in text:
        return None
    brackets, inside = brackets_around(without_layout(text))
    guesses: list[str] = []
    try:
        items = items_of(inside)
        parts = tuple(_part(item, guesses) for item in items[:MAX_PARTS])
    except _Opaque:
        return None
    if len(parts) > 1 and not any(part.nouns for part in parts[:-1]):  # 3, 5 apples
        parts = (*parts[:-1], replace(parts[-1], nouns=frozenset()))
    reading = Reading(parts, brackets, bool(guesses))
    is_mathematics = brackets[0] and not reading.worded  # (3, 4)
    return None if is_mathematics or not 1 <= len(items) <= MAX_PARTS else reading


def _part(item: list[Token], guesses: list[str]) -> Part:
    """One quantity. Bare words in it that may be products of letters are added to ``guesses``."""
    position, label, named = _label(item)
    worded = position > 0
    parts: list[Part] = []
    while position < len(item):
        position, value, currency = _value(item, position)
        if not value:
            raise _Opaque
        end, condition = _tail(item, position)
        parts.append(_described(value, currency, item[position:end], condition, guesses))
        position = len(item) if condition else end
    if not parts:
        raise _Opaque
    part = parts[0] if len(parts) == 1 else _added(tuple(parts))
    return replace(part, label=label, named=named, worded=part.worded or worded)


def _label(item: list[Token]) -> tuple[int, str, bool]:
    """Where the value begins, the words before it, and whether a colon or an equality sign separates them."""
    words: list[str] = []
    for position, (kind, word, in_text, _) in enumerate(item):
        lower = word.lower()
        if kind == "word" and lower in FILLERS and (in_text or len(word) > 1):
            continue
        if kind == "word" and in_text:
            words.append(lower)
        elif word not in (":", ".") or not position:
            break
    if any(word in CHANGERS or word in MATHEMATICS or qualifier(word) for word in words):
        raise _Opaque
    equal = position and position < len(item) and item[position][1] in ("=", "\\approx")
    if equal and not words:  # total = 7
        return 0, "", False
    named = equal or any(word == ":" for _, word, *_ in item[:position])
    return position + equal, " ".join(words), named


def _value(item: list[Token], position: int) -> tuple[int, str, str]:
    """Where the words after the value begin, the value, and the currency before it."""
    value, currency = "", ""
    while position < len(item):
        kind, word, in_text, space = item[position]
        if kind == "currency" and not in_text and not read_number(value):
            if currency:
                raise _Opaque
            currency = word.lstrip("\\")
        elif value and _begins_words(item, position, value, currency):
            break
        elif in_text and kind == "word":
            raise _Opaque
        else:
            value += " " * (space and bool(value)) + word
        position += 1
    return position, value, currency


def _begins_words(item: list[Token], position: int, value: str, currency: str) -> bool:
    """Whether the token at ``position`` is the first word after ``value``, and not a letter or number of the value."""
    kind, word, in_text, space = item[position]
    after = [one for _, one, *_ in item[position + 1 : position + 3]]
    number = read_number(value) is not None or CLOCK.fullmatch(value) is not None
    if in_text:
        return kind == "word" or not item[position - 1][2]
    if kind in ("degree", "currency") and number:
        return True
    if kind != "word":
        return number and (word == "'" or (word == "/" and bool(after) and len(after[0]) > 1 and after[0].isalpha()))
    lower = word.lower()
    if lower in CONDITIONS or (number and (not word.isascii() or bool(currency and word in SCALES_OF_MONEY))):
        return True
    if not number:
        if lower in POWERS_BEFORE and after:
            word = after[0]  # the cm of sq cm
        return space and (word in _NEED_NO_SPACE or len(word) > 3) and bool(units_named(word))
    if len(word) == 1:
        follows = item[position + 1][0] if position + 1 < len(item) else "comma"
        letter = follows == "word" and len(after[0]) == 1 and not item[position + 1][2]
        if letter or follows == "math" or (follows == "power" and word != "m"):
            return False  # 6s^2, g t^2, m L^2
        rate = len(after) == 2 and after[0] == "/" and bool(units_named(after[1]))
        alone = word in _ONE_LETTER or (space and word in _ONE_LETTER_AFTER_SPACE)
        return (alone or rate) and bool(units_named(word))
    if lower in MATHEMATICS:
        return False
    if lower == "ml" and after and after[0].startswith("^"):
        return False  # mL^2, a moment of inertia
    if units_named(word) or lower in POWERS_BEFORE:
        return space or word in _NEED_NO_SPACE or len(word) > 3
    if lower.rstrip(".") in ("am", "pm", "a.m", "p.m"):
        return True
    return space and len(word) > 2 and (scale_of(lower) is not None or lower in CHANGERS or is_noun(word))


def _tail(item: list[Token], position: int) -> tuple[int, str]:
    """Where the words after the value end, and the condition among them."""
    start = position
    while position < len(item):
        kind, word, _, _ = item[position]
        if kind == "word" and word.lower() in CONDITIONS:
            return position, _condition(item[position:])
        if kind == "number" and position > start:
            break
        if kind in ("math", "number") or (kind == "other" and word not in "/.-'\":"):
            raise _Opaque
        position += 1
    return position, ""


def _condition(item: list[Token]) -> str:
    """The condition in one spelling. It must not bring in a second value: ``if n = 1 else 4``, ``unless 6``."""
    words = [one for _, one, *_ in item]
    names = {word.lower() for word in words}
    value = any(kind in ("number", "math") for kind, *_ in item)
    if "else" in names or (value and "otherwise" in names):
        raise _Opaque
    if value and names.isdisjoint(_RELATIONS) and not names.isdisjoint(("unless", "not")):
        raise _Opaque
    kept = [word for word in words if word.lower() not in FILLERS | CONDITIONS - {"otherwise", "unless"}]
    if all(word.isalpha() for word in kept):
        kept.sort()  # for odd n: n is odd
    return "".join(_SAME_SIGNS.get(word, word) for word in kept).rstrip(".") or "for"


@dataclass
class _Words:
    """What the words after a value say, collected word by word."""

    factors: list[tuple[tuple[Unit, ...], int]] = field(default_factory=list)
    scale: Fraction = Fraction(1)
    nouns: set[str] = field(default_factory=set)
    qualifiers: set[tuple[int, str]] = field(default_factory=set)
    changers: set[str] = field(default_factory=set)
    sign: int = 1  # -1 after "per"
    power: int = 1  # 2 after "square"
    percent: bool = False

    def raise_last(self, power: int) -> None:
        if not self.factors or abs(self.factors[-1][1] * power) > MAX_POWER:
            raise _Opaque
        self.factors[-1] = (self.factors[-1][0], self.factors[-1][1] * power)

    def after_degrees(self) -> bool:
        return bool(self.factors) and any(unit.dimension == (("degree", 1),) for unit in self.factors[-1][0])

    def add_unit(self, word: str, rest: list[Token]) -> bool:
        """Add ``word`` if it is a unit. After a noun it is none, and "in" is one only where no word follows."""
        size = int(word[-1]) if word[-1:] in ("2", "3") else 1  # cm2
        units = units_named(word[:-1] if size > 1 else word)
        if not units or (self.nouns and self.sign > 0) or (word == "in" and rest and rest[0][0] == "word"):
            return False
        self.factors.append((units, self.sign * self.power * size))
        self.power = 1
        return True

    def add_unspaced(self, word: str) -> None:
        """Add words of a script without blanks: 5万元 is 50000 yuan."""
        while word:
            name = next((word[:size] for size in (4, 3, 2, 1) if units_named(word[:size])), "")
            scale = scale_of(word[0])
            if name:
                self.factors.append((units_named(name), self.sign))
            elif scale is not None:
                self.scale *= scale
            elif word[0] not in COUNTED:
                raise _Opaque
            word = word[len(name) or 1 :]


def _described(value: str, currency: str, words: list[Token], condition: str, guesses: list[str]) -> Part:
    """The quantity of ``value`` and the words after it."""
    said = _Words()
    words = [token for token in words if token[1] != "."]  # sq. ft.
    if currency:
        said.add_unit(currency, [])
    for position, (kind, word, in_text, _) in enumerate(words):
        rest, lower = words[position + 1 :], word.lower()
        sense = qualifier(lower)
        scale = scale_of(lower)
        guess = [] if in_text or len(word) > 4 else [word]
        if kind == "power":
            said.raise_last(int(re.sub(r"[^0-9-]", "", word)))  # cm^2
        elif word == "'" and rest and rest[0][1] == "'":
            raise _Opaque  # 5''
        elif kind == "times" or word in ("-", '"', ":"):
            continue  # kg·m, ten-dollar bills
        elif rest and (word == "/" or lower == "per" or (lower in PER and (said.factors or said.nouns))):
            said.sign = -1  # m/s, meters per second, dollars a day
        elif said.after_degrees() and lower in ("degree", "degrees", "deg"):
            continue  # 30° degrees
        elif kind == "degree":
            said.add_unit("°", [])
        elif said.after_degrees() and (word in TEMPERATURES or lower in TEMPERATURES):
            said.factors[-1] = (units_named(TEMPERATURES.get(word) or lower), 1)  # 5°C
        elif said.after_degrees() and word in DIRECTIONS:
            said.qualifiers.add(DIRECTIONS[word])  # 30° N
        elif currency and position == 0 and word in SCALES_OF_MONEY:
            said.scale *= SCALES_OF_MONEY[word]  # $5k
        elif scale is not None:
            said.scale *= scale  # 5 million
        elif lower in ("percent", "percentage", "pct"):
            said.percent = True
        elif lower in POWERS_BEFORE and rest and units_named(rest[0][1]):
            said.power = POWERS_BEFORE[lower]  # square meters
        elif lower in POWERS_AFTER and said.factors:
            said.raise_last(POWERS_AFTER[lower])  # meters squared
        elif sense is not None:
            said.qualifiers.add(sense)  # 7:30 p.m.
            guesses += [] if CLOCK.fullmatch(value) or len(lower) > 2 else guess
        elif changes(lower, [one for _, one, *_ in rest]):
            said.changers.add(lower)  # 5 or six
        elif said.add_unit(word, rest):
            guesses += [] if word in _NEED_NO_SPACE or len(word) > 3 else guess
        elif lower in FILLERS:
            continue
        elif not word.isascii():
            said.add_unspaced(word)
        elif len(word) < 2 or not (in_text or said.factors or said.nouns or is_noun(word)):
            raise _Opaque
        else:
            guesses += guess
            said.nouns.add(lower.removesuffix("s"))
    if said.percent:
        value += "\\%"
    number = read_number(value)
    tops = [factor for factor in said.factors if factor[1] > 0]
    return Part(
        value,
        replace(number, value=number.value * said.scale) if number else None,
        said.scale,
        products(said.factors) if said.factors else (),
        products(tops) if 0 < len(tops) < len(said.factors) else (),
        frozenset(said.nouns),
        frozenset(said.qualifiers),
        frozenset(said.changers),
        condition,
        worded=bool(words or condition or currency),
    )


def summed(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """One quantity for 2 hours, 30 minutes. Other quantities stay apart."""
    try:
        return (_added(parts),)
    except _Opaque:
        return parts


def _added(parts: tuple[Part, ...]) -> Part:
    """The sum of parts of one dimension, each in a smaller unit than the one before."""
    numbers = [part.number for part in parts if part.number and part.number.value >= 0 and not part.condition]
    common = set.intersection(*({unit.dimension for unit in part.units} for part in parts))
    if len(numbers) < len(parts) or not common:
        raise _Opaque
    sums, last_units = set(), []
    for dimension in sorted(common):  # 5 minutes 30 seconds is a time and an angle
        units = [next(unit for unit in part.units if unit.dimension == dimension) for part in parts]
        if any(first.factor <= second.factor for first, second in pairwise(units)):
            raise _Opaque
        total = sum((number.value * unit.factor for number, unit in zip(numbers, units, strict=True)), Fraction(0))
        sums.add(tuple(total / unit.factor for unit in units))
        last_units.append(units[-1])
    if len(sums) > 1:
        raise _Opaque
    in_units = sums.pop()
    return replace(
        parts[-1],
        value=str(in_units[-1]),
        number=Number(in_units[-1], decimal=False, percent=False),
        scale=Fraction(1),
        units=tuple(last_units),
        also=in_units[:-1],
        nouns=frozenset().union(*(part.nouns for part in parts)),
        qualifiers=frozenset().union(*(part.qualifiers for part in parts)),
        changers=frozenset().union(*(part.changers for part in parts)),
        label=parts[0].label,
    )
