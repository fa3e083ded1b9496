r"""Compare answers as quantities. math-verify cannot: it drops everything from the first ``\text{`` on.

A quantity is a value with words: a unit (``5\text{ cm}``), a power of ten (``5 million``), a noun (``18 cups``), a qualifier
(``7:30 p.m.``), a condition (``3 \text{ if } n \text{ is even}``). An answer holds one or several quantities.

- A unit or a qualifier that one side leaves out, or spells in another way, does not count.
- Units of one dimension are converted: 5 m equals 500 cm, not 5 cm. Units of different dimensions make answers different,
  except that one side may leave out the ``per …`` of a rate.
- Nouns do not count: 18 apples equal 18 fruits. In a list they say which value is which: 3 cats and 5 dogs are not 5 cats and
  3 dogs.
- Opposites count: a.m. and p.m., north and south, even and odd, profit and loss.
- Million and the like belong to the number: 5 million equals 5000000, not 5. A dozen is a unit.
- Parts of one quantity are added: 2 h 30 min equals 150 min, 2.5 h and, where the unit is left out, 150 or 2.5.
- The condition of a single value may be left out, and so may its name (``\text{Area} = 42``). In a list they may not.
- Words that change the value in another way, or bring in a second one (or, not, half, zero, …), must stand on both sides.
"""

import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product

from verl_efficiency.grading.quantity_tokens import tokens
from verl_efficiency.grading.quick import MAX_CHARS, every, quick_equal, read_number, same_elements, same_number, some
from verl_efficiency.grading.read_quantities import CLOCK, Part, Reading, read_quantities, summed
from verl_efficiency.grading.words import AM_PM, FILLERS

_SAME_FOR_MATH_VERIFY = str.maketrans(dict.fromkeys("€£¥₹₩₽₱₦", r"\$"))
_SEVERAL = re.compile(r"\\[pm]{2}(?![a-zA-Z])|\\cup|\\\{|[(\[]")  # a value that may be several: "\pm 3", "\{3, 5\}"
_SIDES = re.compile(r"(?<![\\<>!:])=+|\\(?:equiv|approx)(?![a-zA-Z])")  # 5 m/s = 18 km/h
ROUNDED = Fraction(1, 100)  # by how much two sides may differ
_ANGLES = ((("degree", 1),), (("radian", 1),))
Comparison = tuple[bool | None, str, str]


def compare_quantities(answer: str, gold: str) -> Comparison:
    r"""Whether two answers are equal, or ``None``; and the two texts for math-verify, without units where it is ``None``.

    >>> compare_quantities("15", r"15\text{ km/h}, 3\text{ km/h}")[0], compare_quantities("5 million", "5000000")[0]
    (False, True)
    >>> compare_quantities(r"\sqrt{2}\text{ m}", r"\sqrt{2}\text{ cm}")
    (None, '\\frac{100}{1} \\cdot (\\sqrt{2})', '\\sqrt{2}')
    >>> compare_quantities("x + 1", "1 + x")
    (None, 'x + 1', '1 + x')
    """
    sides = _SIDES.split(answer)
    if len(sides) > 1 and (equal := _compare_sides(sides, gold)) is not None:
        return equal, answer, gold
    left, right = read_quantities(answer), read_quantities(gold)
    angles = (_in_radians(answer) and "\\circ" in gold) or (_in_radians(gold) and "\\circ" in answer)
    if angles and _is_angle(left, answer) and _is_angle(right, gold):
        return None, answer, gold  # π/6 is 30°: the degree sign belongs to the value
    equal = None
    if left and right:
        if left.worded or right.worded:
            equal, answer, gold = _compare(left, right, answer, gold)
    elif right is None and _is_cut(gold):
        equal, answer, gold = _compare_around_words(answer, gold)
    else:
        answer, gold = _without_units(left, answer), _without_units(right, gold)
    return equal, answer.translate(_SAME_FOR_MATH_VERIFY), gold.translate(_SAME_FOR_MATH_VERIFY)


def _in_radians(text: str) -> bool:
    return "\\pi" in text and "\\circ" not in text


def _is_angle(reading: Reading | None, text: str) -> bool:
    """Whether a text holds only angles and bare mathematics."""
    if reading is None:
        return "\\text" not in text and "\\mathrm" not in text
    return all(
        not (part.nouns or part.qualifiers or part.changers or part.condition)
        and part.scale == 1
        and (not part.units or any(unit.dimension in _ANGLES for unit in part.units))
        for part in reading.parts
    )


def _compare_sides(sides: list[str], gold: str) -> bool | None:
    """Compare ``5 m/s = 18 km/h`` and ``3/4 = 75\\%``. One side must be right, and the others equal, up to rounding."""
    readings = [reading for side in sides if (reading := read_quantities(side)) and len(reading.parts) == 1]
    numbers = [reading.parts[0] for reading in readings if reading.parts[0].number]
    marked = any(part.worded or (part.number and part.number.percent) for part in numbers)
    if len(numbers) < 2 or not marked or any(part.condition for part in numbers):
        return None
    for first, second in pairwise(numbers):
        if not any(_close(first, second, ratio) for ratio in _ratios(first, second)):
            return False
    verdicts = [quick_equal(side, gold) for side in sides if read_number(side)] + [
        compare_quantities(side, gold)[0] for side in sides
    ]
    return some(verdicts)


def _close(first: Part, second: Part, ratio: Fraction) -> bool:
    if not first.number or not second.number:
        return False
    values = (first.number.worth * ratio, second.number.worth)
    return abs(values[0] - values[1]) <= ROUNDED * max(map(abs, values))


def _without_units(reading: Reading | None, text: str) -> str:
    """``text`` for math-verify, where the other side holds no quantities."""
    if not reading or not reading.worded or reading.guessed:
        return text
    if any(part.changers or part.label or part.condition for part in reading.parts):
        return text
    return _join([_in_figures(part) for part in reading.parts], reading.brackets)


def _is_cut(text: str) -> bool:
    r"""Whether math-verify would drop mathematics: what follows the first ``\text{``, where the last one ends the text."""
    if "\\" not in text or not text.endswith("}") or len(text) > MAX_CHARS:
        return False
    return len(_around_words(text)[1]) > 1 and list(tokens(text))[-1][2]


def _compare_around_words(answer: str, gold: str) -> Comparison:
    """The words must be the same. What stands around them goes to math-verify, piece by piece."""
    (words, left), (other_words, right) = _around_words(answer), _around_words(gold)
    if words != other_words or len(left) != len(right):
        return False, answer, gold
    return None, _join(left, ("(", ")")), _join(right, ("(", ")"))


def _around_words(text: str) -> tuple[list[str], list[str]]:
    """The words in a text, and what stands between them."""
    words: list[str] = []
    pieces: list[str] = []
    within = False
    for kind, word, in_text, space in tokens(text):
        if in_text or kind == "comma":
            words += [word.lower()] if kind == "word" and word.lower() not in FILLERS else []
        elif within:
            pieces[-1] += " " * space + word
        else:
            pieces.append(word)
        within = not in_text and kind != "comma"
    return words, pieces


def _compare(left: Reading, right: Reading, answer: str, gold: str) -> Comparison:
    """Compare two texts that are quantities, of which at least one has words."""
    answers, golds = left.parts, right.parts
    if left.guessed and right.guessed and {part.name for part in answers} != {part.name for part in golds}:
        return None, answer, gold  # 2 rst and 2 srt: most likely products of letters
    for one, other in ((left, right), (right, left)):
        if one.guessed and not other.worded and not all(part.number for part in other.parts):
            return None, answer, gold  # s^2/2 and \\frac12 s^2
    if len(answers) != len(golds):
        if any(_SEVERAL.search(part.value) for part in answers + golds):
            if any(part.label or part.condition for part in answers + golds):
                return None, _without_units(left, answer), _without_units(right, gold)
            if not _in_one_unit(answers, golds):
                return False, answer, gold
            return _for_math_verify(answers, (golds[0],) * len(answers), golds, left.brackets, right.brackets)
        answers, golds = summed(answers), summed(golds)
    if len(answers) != len(golds) or (
        len(golds) > 1
        and sorted(bool(part.condition) for part in answers) != sorted(bool(part.condition) for part in golds)
    ):
        return False, answer, gold
    if len(golds) == 1 and not _same_label(answers[0], golds[0]):
        return None, answer, gold
    alike = left.brackets == right.brackets or {left.brackets[0], right.brackets[0]} == {"", "\\{"}
    if len(golds) > 1 and not _in_order(left, right):
        if alike and all(part.number for part in answers + golds):  # undecided means equal but for the last decimals
            equal = same_elements(golds, answers, lambda part, other: _same(other, part) is not False)
            return equal, answer, gold
        if _in_one_unit(answers, golds):
            return _for_math_verify(answers, (golds[0],) * len(answers), golds, left.brackets, right.brackets)
    answers = _in_order_of(golds, answers)
    equal = every([_same(part, other) for part, other in zip(answers, golds, strict=True)])
    if equal is False or (equal and alike):
        return equal, answer, gold
    if alike and len(golds) > 1:
        return _for_math_verify(answers, golds, golds, ("(", ")"), ("(", ")"))
    return _for_math_verify(answers, golds, golds, left.brackets, right.brackets)


def _same_label(answer: Part, gold: Part) -> bool:
    """Whether two values have one label, or one has none and the label of the other only names it, as in "Area = 42"."""
    return answer.label == gold.label or any(
        part.named and not other.label for part, other in ((answer, gold), (gold, answer))
    )


def _in_one_unit(answers: tuple[Part, ...], golds: tuple[Part, ...]) -> bool:
    """Whether all references have one unit, and every answer can be written in it."""
    return len({part.units for part in golds}) == 1 and all(_ratios(part, golds[0]) for part in answers)


def _for_math_verify(
    answers: tuple[Part, ...],
    partners: tuple[Part, ...],
    golds: tuple[Part, ...],
    around: tuple[str, str],
    around_golds: tuple[str, str],
) -> Comparison:
    """The values without words; those of the answer in the units of their partners."""
    values = [_in_figures(part, _ratios(part, other)[0]) for part, other in zip(answers, partners, strict=True)]
    return None, _join(values, around), _join([_in_figures(part) for part in golds], around_golds)


def _in_figures(part: Part, ratio: Fraction = Fraction(1)) -> str:
    times = part.scale * ratio
    return part.value if times == 1 else rf"\frac{{{times.numerator}}}{{{times.denominator}}} \cdot ({part.value})"


def _join(values: list[str], brackets: tuple[str, str]) -> str:
    return brackets[0] + ", ".join(values) + brackets[1]


def _in_order(left: Reading, right: Reading) -> bool:
    """Whether the order of values matters: in a tuple, and where words tell the values apart, as in 3 cats, 5 dogs."""
    if {left.brackets[0], right.brackets[0]} & {"(", "["}:
        return True
    return any(len({part.name for part in reading.parts}) == len(reading.parts) for reading in (left, right))


def _in_order_of(golds: tuple[Part, ...], answers: tuple[Part, ...]) -> tuple[Part, ...]:
    """``answers`` in the order of ``golds`` where both have the same names; else unchanged."""
    by_name = {part.name: part for part in answers}
    if len(by_name) == len({part.name for part in golds}) == len(golds) and all(part.name in by_name for part in golds):
        return tuple(by_name[part.name] for part in golds)
    return answers


def _same(answer: Part, gold: Part) -> bool | None:
    """Whether two quantities are equal; ``None`` where math-verify has to compare their values."""
    ratios = _ratios(answer, gold)
    if not ratios:
        return False
    if any(group == AM_PM for group, _ in answer.qualifiers | gold.qualifiers):
        left, right = _times_of_day(answer), _times_of_day(gold)
        if left and right:
            return bool(left & right)
    if not answer.number or not gold.number:
        return None
    values = [*(answer.number.value * ratio for ratio in ratios), *(() if gold.units else answer.also)]
    others = [gold.number.value, *(() if answer.units else gold.also)]
    return some(
        [
            same_number(replace(answer.number, value=value), replace(gold.number, value=other))
            for value, other in product(values, others)
        ]
    )


def _ratios(answer: Part, gold: Part) -> tuple[Fraction, ...]:
    """The factors that convert ``answer`` to the unit of ``gold``, the most likely first; empty where words contradict."""
    if answer.changers != gold.changers or _opposite(answer, gold):
        return ()
    if answer.condition and gold.condition and answer.condition != gold.condition:
        return ()
    if not answer.units or not gold.units:
        return _ratios_to_no_unit(answer, gold)
    pairs = [(answer.units, gold.units)]
    if bool(answer.tops) != bool(gold.tops):  # dollars, and dollars per hour
        pairs.append((answer.tops or answer.units, gold.tops or gold.units))
    for units, others in pairs:
        ratios = {unit.factor / other.factor for unit in units for other in others if unit.dimension == other.dimension}
        if ratios:
            return tuple(sorted(ratios, key=lambda ratio: (ratio != 1, ratio)))
    return ()


def _ratios_to_no_unit(answer: Part, gold: Part) -> tuple[Fraction, ...]:
    """A dozen eggs are 12 eggs. Where no noun follows, a dozen is 12 or 1."""
    for part, other, power in ((answer, gold, 1), (gold, answer, -1)):
        for unit in part.units:
            if unit.dimension == (("count", 1),):
                return (unit.factor**power,) if other.nouns else (Fraction(1), unit.factor**power)
    return (Fraction(1),)


def _opposite(answer: Part, gold: Part) -> bool:
    for group, _ in answer.qualifiers:
        left, right = ({word for which, word in part.qualifiers if which == group} for part in (answer, gold))
        if right and left != right:
            return True
    return False


def _times_of_day(part: Part) -> frozenset[int]:
    """Seconds after midnight that ``part`` can mean: two for 7:30 without a.m. or p.m., none for what is not a time."""
    match = CLOCK.fullmatch(part.value.strip())
    hour = int(match[1]) if match else 24
    if not match or hour > 23:
        return frozenset()
    halves = {word for group, word in part.qualifiers if group == AM_PM}
    if hour == 0 or hour > 12:
        hours = [hour]
    else:
        hours = [hour % 12 + 12 * half for half, word in enumerate(("am", "pm")) if not halves or word in halves]
    return frozenset(3600 * hour + 60 * int(match[2] or 0) + int(match[3] or 0) for hour in hours)
