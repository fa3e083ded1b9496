r"""Read an answer as quantities, which math-verify does not: it cuts everything from the first ``\text{`` on.

A quantity is a value with words: a unit (``5\text{ cm}``), a power of ten in words (``5 million``), a noun (``18 cups``), a
qualifier (``7:30 p.m.``), a condition (``3 \text{ if } n \text{ is even}``). One answer holds one or several of them.

What is decided, with equal values:

- A unit or a qualifier that one side leaves out, or spells in another way, does not count against it.
- Two units of one dimension are converted: 5 m is 500 cm and is not 5 cm. Two units of different dimensions are different
  answers, except that the ``per …`` of a rate may be left out.
- Nouns do not count: 18 apples are 18 fruits. In a list they say which value is which: 3 cats and 5 dogs are not 5 cats and
  3 dogs.
- Opposites count: a.m. and p.m., north and south, even and odd, profit and loss.
- Million and the like belong to the number: 5 million is 5000000 and is not 5. A dozen is a unit.
- Parts of one quantity are added: 2 h 30 min is 150 min, 2.5 h and, where the unit is left out, 150 or 2.5.
- Words that could hold a second answer or change the value in another way (or, not, half, zero, …) must stand on both sides.
"""

import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from verl_efficiency.grading.equality import same_number
from verl_efficiency.grading.numbers import Number, read_number
from verl_efficiency.grading.units import Unit, products, units_named

MAX_CHARS = 500
MAX_PARTS = 16
_SPACE = r"(?:\s|~|\\[,;:!> ]|\\q?quad(?![A-Za-z]))+"
_TOKEN = re.compile(
    rf"""\\(?:text(?:normal|bf|it|rm)?|mathrm|mbox)\s*\{{(?P<text>[^{{}}]*)\}}
    | (?P<space>{_SPACE})
    | (?P<degree>\^\s*(?:\\circ(?![A-Za-z])|\{{\s*\\circ\s*\}}))
    | (?P<power>\^\s*(?:\{{\s*-?[0-9]\s*\}}|-?[0-9](?![0-9])))
    | (?P<currency>\\?\$|[€£¥₹₩₽₱₦¢])
    | (?P<number>[0-9]{{1,3}}(?:,[0-9]{{3}})+(?![0-9,])|[0-9]+)
    | (?P<word>[A-Za-z](?:\.\s?[A-Za-z]\.?(?![A-Za-z])|[A-Za-z]*(?:(?<=cm|mm|km|ft|in)[23](?![0-9])|(?<=[a-z])'[a-z]+)?)
      | [µμ][A-Za-z]+ | [一-鿿]+ | [가-힣]+)
    | (?P<open>\\\{{|[({{\[]) | (?P<close>\\\}}|[)}}\]])
    | (?P<comma>[,;，、；])
    | (?P<times>\\(?:cdot|times)(?![A-Za-z])|[*·⋅])
    | (?P<other>\\[A-Za-z]+|\\.|.)""",
    re.VERBOSE | re.DOTALL,
)
_CURRENCY_CODE = re.compile(
    r"(?<![A-Za-z\\])(?:(?P<inr>(?i:rs|inr)\b\.?|\\text\s*\{\s*(?i:rs|inr)\.?\s*\})|(?P<usd>USD|US(?=\s*\\?\$)|\\text\s*\{\s*US\s*\}(?=\s*\\?\$))"
    r"|(?P<eur>EUR|\\euro(?![A-Za-z]))|(?P<gbp>GBP|\\pounds(?![A-Za-z]))|(?P<cny>CNY|RMB))(?:\s|~|\\[ ,])*\\?\$?(?=\s*[0-9.])"
)
_CURRENCIES = {"inr": "₹", "usd": "\\$", "eur": "€", "gbp": "£", "cny": "¥"}
_CLOCK = re.compile(r"([0-9]{1,2})(?:[:.]([0-5][0-9])(?::([0-5][0-9]))?)?")
_LAYOUT = re.compile(r"\\(?:left|right)(?![a-zA-Z])|\\!")
_MICRO = re.compile(r"\\mu\s?(\\(?:text|mathrm)\s?\{)\s?|(\\(?:text|mathrm)\s?\{\s?)\\mu\s?")

_SCALES = {"hundred": 100, "thousand": 1000, "lakh": 10**5, "million": 10**6, "crore": 10**7, "billion": 10**9}
_SCALES |= {"tens": 10, "trillion": 10**12, "千": 1000, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_SHORT_SCALES = {"k": 1000, "K": 1000, "M": 10**6, "B": 10**9, "bn": 10**9}  # of money only: \$5k
_FRACTIONS = dict(
    zip("halves thirds fourths fifths sixths sevenths eighths ninths tenths".split(), range(2, 11), strict=True)
)
_FRACTIONS |= {f"{word}ths": _SCALES[word] for word in ("hundred", "thousand", "million", "billion")}

_OPPOSITES = [
    *("am pm", "even odd", "clockwise counterclockwise", "more less", "above below", "before after"),
    *(
        "ahead behind",
        "faster slower",
        "older younger",
        "taller longer shorter",
        "earlier later",
        "boy girl",
        "man woman",
    ),
    *("male female", "head tail", "inside outside", "maximum minimum", "win lose", "left right", "up down", "bce ad"),
    *("rational irrational", "prime composite", "finite infinite", "parallel perpendicular", "increase decrease"),
    *("profit loss", "true false", "open closed", "convergent divergent", "hit miss", "parent child"),
    "north south east west northeast northwest southeast southwest",
    "monday tuesday wednesday thursday friday saturday sunday",
    "january february march april june july august september october november december",
    "red blue green yellow white black orange purple pink brown",
]
_GROUP = {word: (index, word) for index, group in enumerate(_OPPOSITES) for word in group.split()}
_AM_PM = _GROUP["am"][0]
_SAME = {
    "a.m": "am",
    "p.m": "pm",
    "morning": "am",
    "afternoon": "pm",
    "evening": "pm",
    "anticlockwise": "counterclockwise",
}
_SAME |= {"fewer": "less", "gain": "profit", "men": "man", "women": "woman", "upward": "up", "downward": "down"}
_SAME |= {"increased": "increase", "decreased": "decrease", "reduction": "decrease", "won": "win", "lost": "lose"}
_AFTER_DEGREES = {"N": "north", "S": "south", "E": "east", "W": "west"}

_NUMBER_WORDS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty fifty sixty seventy eighty ninety half".split()
)
# Words that change the value in another way than those above, or bring in a second one.
_CHANGERS = _NUMBER_WORDS | frozenset(
    "or nor not but either neither never no non wrong incorrect instead rather actually maybe perhaps possibly versus vs least "
    "most than except without minus plus squared cubed factorial infinity undefined unknown answer answers isn't aren't to "
    "between under over negative imaginary".split()
)
_MATHEMATICS = frozenset(
    "pi sqrt root sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp gcd lcm max mod modulo det choose "
    "lim arg dim ker sup div rem abs sgn iff cis".split()
)
_FILLERS = frozenset(
    "of the is are was were be will in on at total exactly about approximately approx around roughly only just all each "
    "altogether a an".split()
)
_CONDITIONS = frozenset("if when whenever for where unless otherwise provided assuming".split())
_SAME_SIGNS = {"\\geq": "\\ge", "\\leq": "\\le", "\\neq": "\\ne", "≥": "\\ge", "≤": "\\le"}
_PER = frozenset(["a", "an", "each", "every"])
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_AFTER_POWERS = {"squared": 2, "cubed": 3}
_COUNTED = frozenset("个個人名本次岁歲只件张張辆輛条條块塊页頁种種位台棵支개명")
# Bare words that need no space behind the number, and bare letters that are units there, as for math-verify.
_FREE_SHORT = frozenset("cm mm km kg ft ml mL hr hrs min mins sec secs lb lbs oz mph kph yd mi".split())
_ONE_LETTER = frozenset("msghlLd")

Token = tuple[str, str, bool, bool]  # kind, text, inside \text{}, space before it


@dataclass(frozen=True)
class Part:
    """One quantity.

    Attributes:
        value: its mathematics, as LaTeX.
        number: the value, where it is a plain number; the scale is in it.
        scale: what words multiply the value by; a million for ``5 million``.
        units: the readings of its unit; empty for none.
        tops: the same without ``per …``; empty where nothing is left out.
        nouns, qualifiers, changers: the other words; a qualifier with its group of opposites.
        condition: what stands behind ``if``, ``for``, …, without spaces and fillers.
        label: the words before the value.
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
    also: tuple[Fraction, ...] = ()
    worded: bool = False

    @property
    def name(self) -> tuple[object, ...]:
        """What tells it from the other quantities of a list."""
        return self.label, self.condition, self.nouns, self.qualifiers


@dataclass(frozen=True)
class Reading:
    """The quantities of a text, the brackets around them, and whether a bare word could be a product of letters."""

    parts: tuple[Part, ...]
    brackets: tuple[str, str]
    guessed: bool

    @property
    def worded(self) -> bool:
        return any(part.worded for part in self.parts)


class _Opaque(Exception):
    """The text is something else than quantities."""


def compare_quantities(answer: str, gold: str) -> tuple[bool | None, str, str]:
    r"""The verdict, where it is plain to see; else ``None`` and the two texts without units, for math-verify.

    >>> compare_quantities(r"15\text{ km/h}", r"15\text{ km/h}, 3\text{ km/h}")[0], compare_quantities("5 million", "5000000")[0]
    (False, True)
    >>> compare_quantities(r"\sqrt{2}\text{ m}", r"\sqrt{2}\text{ cm}")
    (None, '\\frac{100}{1} \\cdot (\\sqrt{2})', '\\sqrt{2}')
    >>> compare_quantities("x + 1", "1 + x")
    (None, 'x + 1', '1 + x')
    """
    left, right = read_quantities(answer), read_quantities(gold)
    if left and right:
        return _compare(left, right, answer, gold) if left.worded or right.worded else (None, answer, gold)
    if right is None and _is_cut(gold):
        return _compare_around_words(answer, gold)
    return None, _without_units(left, answer), _without_units(right, gold)


def _without_units(reading: Reading | None, text: str) -> str:
    """``text`` for math-verify, where the other side is something else than quantities."""
    if not reading or not reading.worded or reading.guessed:
        return text
    if any(part.changers or part.label or part.condition for part in reading.parts):
        return text
    return _join([_scaled(part) for part in reading.parts], reading.brackets)


def _is_cut(text: str) -> bool:
    r"""Whether math-verify would drop mathematics: what follows the first ``\text{``, where the last one ends the text."""
    return text.endswith("}") and len(_around_words(text)[1]) > 1 and next(reversed(list(_tokens(text))))[2]


def _compare_around_words(answer: str, gold: str) -> tuple[bool | None, str, str]:
    """The words must be the same; what stands around them goes to math-verify, piece by piece."""
    (words, left), (other_words, right) = _around_words(answer), _around_words(gold)
    if words != other_words or len(left) != len(right):
        return False, answer, gold
    return None, f"({', '.join(left)})", f"({', '.join(right)})"


def _around_words(text: str) -> tuple[list[str], list[str]]:
    words, pieces, open_piece = [], [], False
    for kind, word, in_text, space in _tokens(text):
        if in_text or kind == "comma":
            words += [word.lower()] if kind == "word" and word.lower() not in _FILLERS else []
            open_piece = False
        elif open_piece:
            pieces[-1] += " " * space + word
        else:
            pieces.append(word)
            open_piece = True
    return words, pieces


def _compare(left: Reading, right: Reading, answer: str, gold: str) -> tuple[bool | None, str, str]:
    if left.guessed and right.guessed and [part.name for part in left.parts] != [part.name for part in right.parts]:
        return None, answer, gold  # 2 rst and 2 str: products of letters, as far as one can see
    answers, golds = left.parts, right.parts
    if len(answers) != len(golds):
        answers, golds = _sum(answers), _sum(golds)
        if len(answers) != len(golds):
            return False, answer, gold
    if len(golds) == 1 and answers[0].label != golds[0].label:
        return None, answer, gold
    if len(golds) > 1 and sorted(bool(part.condition) for part in answers) != sorted(
        bool(part.condition) for part in golds
    ):
        return False, answer, gold
    alike = left.brackets == right.brackets or {left.brackets[0], right.brackets[0]} == {"", "\\{"}
    if _in_order(left, right):
        answers = _in_order_of(golds, answers)
    elif alike and all(part.number for part in answers + golds):
        return _same_set(answers, golds), answer, gold
    elif (
        1 < len(golds) and len({part.units for part in golds}) == 1 and all(_ratios(part, golds[0]) for part in answers)
    ):
        ratio = _ratios(answers[0], golds[0])[0]
        values = [_scaled(part, ratio) for part in answers]
        return None, _join(values, left.brackets), _join([_scaled(part) for part in golds], right.brackets)
    verdicts = [_same(part, other) for part, other in zip(answers, golds, strict=True)]
    if False in verdicts:
        return False, answer, gold
    if alike and None not in verdicts:
        return True, answer, gold
    values = [_scaled(part, _ratios(part, other)[0]) for part, other in zip(answers, golds, strict=True)]
    around = (("(", ")"), ("(", ")")) if alike and len(golds) > 1 else (left.brackets, right.brackets)
    return None, _join(values, around[0]), _join([_scaled(part) for part in golds], around[1])


def _in_order(left: Reading, right: Reading) -> bool:
    """Whether it matters which value comes first: in a tuple, and where words tell the values apart, as in 3 cats, 5 dogs."""
    if "(" in (left.brackets[0], right.brackets[0]) or "[" in (left.brackets[0], right.brackets[0]):
        return True
    sides = (left.parts, right.parts)
    return any(len({part.name for part in parts}) == len(parts) > 1 for parts in sides)


def _in_order_of(golds: tuple[Part, ...], answers: tuple[Part, ...]) -> tuple[Part, ...]:
    """``answers`` in the order of ``golds`` where both have the same names; else as they are."""
    by_name = {part.name: part for part in answers}
    if len(by_name) == len(golds) and all(part.name in by_name for part in golds):
        return tuple(by_name[part.name] for part in golds)
    return answers


def _same_set(answers: tuple[Part, ...], golds: tuple[Part, ...]) -> bool:
    left = list(answers)
    for gold in golds:
        match = next((part for part in left if _same(part, gold)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same(answer: Part, gold: Part) -> bool | None:
    """Whether two quantities are equal; ``None`` where math-verify has to compare their values."""
    ratios = _ratios(answer, gold)
    if not ratios:
        return False
    clocks = _clock(answer), _clock(gold)
    if clocks[0] and clocks[1] and any(group == _AM_PM for group, _ in answer.qualifiers | gold.qualifiers):
        return bool(clocks[0] & clocks[1])
    if not answer.number or not gold.number:
        return None
    values = [answer.number.value * ratio for ratio in ratios]
    others = [gold.number.value]
    if not gold.units:
        values += answer.also
    if not answer.units:
        others += gold.also
    verdicts = {
        same_number(replace(answer.number, value=value), replace(gold.number, value=other))
        for value in values
        for other in others
    }
    return True if True in verdicts else None if None in verdicts else False


def _ratios(answer: Part, gold: Part) -> tuple[Fraction, ...]:
    """What the value of ``answer`` may be multiplied by to be in the unit of ``gold``; nothing where words contradict."""
    if answer.changers != gold.changers or _opposite(answer, gold):
        return ()
    if answer.condition and gold.condition and answer.condition != gold.condition:
        return ()
    if not answer.units or not gold.units:
        return _ratios_to_no_unit(answer, gold)
    pairs = [(answer.units, gold.units)]
    if bool(answer.tops) != bool(gold.tops):  # dollars, and dollars per hour
        pairs.append((answer.tops or answer.units, gold.tops or gold.units))
    for lefts, rights in pairs:
        ratios = {one.factor / two.factor for one in lefts for two in rights if one.dimension == two.dimension}
        if ratios:
            return tuple(sorted(ratios, key=lambda ratio: ratio != 1))
    return ()


def _ratios_to_no_unit(answer: Part, gold: Part) -> tuple[Fraction, ...]:
    for part, other, power in ((answer, gold, 1), (gold, answer, -1)):
        for unit in part.units:
            if unit.dimension == (("count", 1),):  # a dozen eggs are 12 eggs; where nothing is said, 12 or one dozen
                return (unit.factor**power,) if other.nouns else (Fraction(1), unit.factor**power)
    return (Fraction(1),)


def _opposite(answer: Part, gold: Part) -> bool:
    for group in {group for group, _ in answer.qualifiers}:
        left, right = ({word for which, word in part.qualifiers if which == group} for part in (answer, gold))
        if right and left != right:
            return True
    return False


def _clock(part: Part) -> frozenset[int]:
    """Seconds after midnight at which the time of day ``part`` can be; empty if it is none."""
    match = _CLOCK.fullmatch(part.value.strip())
    hour = int(match[1]) if match else 24
    if not match or hour > 23:
        return frozenset()
    later = 60 * int(match[2] or 0) + int(match[3] or 0)
    halves = {word for group, word in part.qualifiers if group == _AM_PM}
    if hour > 12 or hour == 0 or not halves:
        hours = {hour} if hour > 12 or hour == 0 else {hour % 12, hour % 12 + 12}
    else:
        hours = {hour % 12 + 12 * ("pm" in halves)}
    return frozenset(3600 * one + later for one in hours)


def _sum(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """One quantity for 2 hours, 30 minutes; several stay what they are."""
    if len(parts) < 2:
        return parts
    try:
        return (_added(list(parts)),)
    except _Opaque:
        return parts


def _added(parts: list[Part]) -> Part:
    """The sum of parts in ever smaller units of one dimension."""
    for first, second in zip(parts, parts[1:], strict=False):
        if first.condition or second.condition or not first.number or not second.number or second.number.value < 0:
            raise _Opaque
    dimensions = [{unit.dimension for unit in part.units} for part in parts]
    common = set.intersection(*dimensions)
    if len(common) != 1:
        raise _Opaque
    readings = [next(unit for unit in part.units if unit.dimension in common) for part in parts]
    factors = [unit.factor for unit in readings]
    numbers = [part.number for part in parts if part.number]
    if numbers[0].value < 0 or any(first <= second for first, second in zip(factors, factors[1:], strict=False)):
        raise _Opaque
    total = sum((number.value * factor for number, factor in zip(numbers, factors, strict=True)), Fraction(0))
    return replace(
        parts[-1],
        value=str(total / factors[-1]),
        number=Number(total / factors[-1], decimal=False, percent=False),
        units=(readings[-1],),
        also=tuple(total / factor for factor in factors[:-1]),
        label=parts[0].label,
        qualifiers=frozenset().union(*(part.qualifiers for part in parts)),
        nouns=frozenset().union(*(part.nouns for part in parts)),
        changers=frozenset().union(*(part.changers for part in parts)),
    )


def _scaled(part: Part, ratio: Fraction = Fraction(1)) -> str:
    times = part.scale * ratio
    return part.value if times == 1 else rf"\frac{{{times.numerator}}}{{{times.denominator}}} \cdot ({part.value})"


def _join(values: list[str], brackets: tuple[str, str]) -> str:
    return brackets[0] + ", ".join(values) + brackets[1]


def read_quantities(text: str) -> Reading | None:
    r"""The quantities that ``text`` holds, or ``None`` if it is something else.

    >>> [part.value for part in read_quantities(r"15\text{ km/h and }3\text{ km/h}").parts]
    ['15', '3']
    >>> read_quantities(r"3 \text{ cm} + 2x") is None
    True
    """
    if len(text) > MAX_CHARS or "\\begin" in text:
        return None
    text = _CURRENCY_CODE.sub(
        lambda code: _CURRENCIES[code.lastgroup or ""], _MICRO.sub(r"\1\2µ", _LAYOUT.sub("", text.strip()))
    )
    text = text if len(re.findall(r"(?<!\\)\$", text)) == 1 else re.sub(r"(?<!\\)\$", "", text)
    brackets, inside = _brackets(text)
    try:
        items = _items(inside)
        if not 1 <= len(items) <= MAX_PARTS:
            return None
        guesses: list[str] = []
        return Reading(tuple(_part(item, guesses) for item in items), brackets, bool(guesses))
    except _Opaque:
        return None


def _brackets(text: str) -> tuple[tuple[str, str], str]:
    for opening, closing in (("\\{", "\\}"), ("(", ")"), ("[", "]")):
        if text.startswith(opening) and text.endswith(closing):
            inside = text[len(opening) : -len(closing)]
            depth = 0
            for bracket in re.findall(r"\\[{}]|[()\[\]]", inside):
                depth += 1 if bracket in ("\\{", "(", "[") else -1
                if depth < 0:
                    return ("", ""), text
            return (opening, closing), inside
    return ("", ""), text


def _tokens(text: str, in_text: bool = False) -> Iterator[Token]:
    space, depth, before = False, 0, ""
    for match in _TOKEN.finditer(text):
        kind, word = match.lastgroup or "", match[0]
        if kind == "space":
            space = True
        elif kind == "text" and depth == 0 and before not in ("_", "^"):
            yield from _tokens(match["text"], in_text=True)
            space = True
        else:
            depth += 0 if in_text else (kind == "open") - (kind == "close")
            inner = depth > 0 or kind in ("open", "close", "text")
            yield ("math" if inner and not in_text else kind), word, in_text, space
            space, before = False, word


def _items(text: str) -> list[list[Token]]:
    """The tokens between commas, "and" and "or"; what is no quantity but belongs to a condition before it stays with that."""
    items: list[list[Token]] = [[]]
    for token in _tokens(text):
        if token[0] == "comma" or (token[0] == "word" and token[1].lower() in ("and", "or", "和", "或")):
            items.append([])
        else:
            items[-1].append(token)
    joined: list[list[Token]] = []
    for item in filter(None, items):
        alone = _has_condition(item) or any(kind == "number" for kind, *_ in item)
        if joined and not alone and _has_condition(joined[-1]):
            joined[-1] += item
        else:
            joined.append(item)
    return joined


def _has_condition(item: list[Token]) -> bool:
    return any(kind == "word" and word.lower() in _CONDITIONS for kind, word, *_ in item)


def _part(item: list[Token], guesses: list[str]) -> Part:
    """One quantity; what bare words are taken for nouns goes to ``guesses``."""
    position, label = _label(item)
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
    part = parts[0] if len(parts) == 1 else _added(parts)
    return replace(part, label=label, worded=part.worded or worded)


def _label(item: list[Token]) -> tuple[int, str]:
    """Where the value begins, and the words before it."""
    words = []
    for position, (kind, word, in_text, _) in enumerate(item):
        if kind == "word" and (in_text or word.lower() in _FILLERS and len(word) > 1):
            words += [word.lower()] if word.lower() not in _FILLERS else []
        elif not (word in (":", ".") and position):
            break
    if any(word in _CHANGERS or word in _MATHEMATICS or word in _GROUP for word in words):
        raise _Opaque
    return position, " ".join(words)


def _value(item: list[Token], position: int) -> tuple[int, str, str]:
    """Where the words behind the value begin, the value, and the currency before it."""
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
    """Whether the token at ``position`` is the first of the words behind ``value``, not a letter or number of it."""
    kind, word, in_text, space = item[position]
    number = read_number(value) is not None or _CLOCK.fullmatch(value) is not None
    if in_text:
        return kind == "word" or not item[position - 1][2]
    if kind in ("degree", "currency") and number:
        return True
    if kind != "word":
        following = item[position + 1][1] if len(item) > position + 1 else ""
        return number and (word == "'" or (word == "/" and len(following) > 1 and following.isalpha()))
    lower = word.lower()
    if lower in _CONDITIONS or (not word.isascii() and number):
        return True
    if not number:
        return space and (word in _FREE_SHORT or len(word) > 3) and bool(units_named(word))
    if currency and word in _SHORT_SCALES:
        return True
    if len(word) == 1:
        following = item[position + 1 : position + 3]
        rate = len(following) == 2 and following[0][1] == "/" and bool(units_named(following[1][1]))
        return (word in _ONE_LETTER or rate) and bool(units_named(word))
    if lower in _MATHEMATICS:
        return False
    if units_named(word) or lower in _POWERS:
        return space or word in _FREE_SHORT or len(word) > 3
    if lower.rstrip(".") in ("am", "pm", "a.m", "p.m"):
        return True
    return space and len(word) > 2 and (_scale(lower) is not None or lower in _CHANGERS or _is_noun(word))


def _tail(item: list[Token], position: int) -> tuple[int, str]:
    """Where the words end, and the condition among them."""
    start = position
    while position < len(item):
        kind, word, _, _ = item[position]
        if kind == "word" and word.lower() in _CONDITIONS:
            words = [one for _, one, *_ in item[position:]]
            kept = [one for one in words if one.lower() not in _FILLERS | _CONDITIONS - {"otherwise", "unless"}]
            if all(one.isalpha() for one in kept):
                kept.sort()  # for odd n: n is odd
            return position, "".join(_SAME_SIGNS.get(one, one) for one in kept).rstrip(".") or "for"
        if kind == "number" and position > start:
            break
        if kind in ("math", "number") or (kind == "other" and word not in "/.-'\":"):
            raise _Opaque
        position += 1
    return position, ""


def _described(value: str, currency: str, words: list[Token], condition: str, guesses: list[str]) -> Part:
    """The quantity of ``value`` and the words behind it."""
    factors: list[tuple[tuple[Unit, ...], int]] = [(units_named(currency), 1)] if currency else []
    sign, power, broken, percent = 1, 1, False, False
    scale = Fraction(1)
    nouns: set[str] = set()
    qualifiers: set[tuple[int, str]] = set()
    changers: set[str] = set()
    for position, (kind, word, in_text, _) in enumerate(words):
        lower, rest = word.lower(), words[position + 1 :]
        last = bool(factors) and _names_degrees(factors[-1][0])
        if kind == "power":
            if not factors:
                raise _Opaque
            factors[-1] = (factors[-1][0], factors[-1][1] * int(re.sub(r"[^0-9-]", "", word)))
        elif kind == "times" or word in (".", "-", '"', ":"):
            continue
        elif word == "'" and rest and rest[0][1] == "'":
            raise _Opaque
        elif rest and (word == "/" or lower == "per" or (lower in _PER and (factors or nouns))):
            sign = -1
        elif kind == "degree":
            factors.append((units_named("°"), sign))
        elif last and (word in ("C", "F", "K") or lower in ("celsius", "fahrenheit", "centigrade", "kelvin")):
            factors[-1] = (units_named({"C": "celsius", "F": "fahrenheit"}.get(word, word)), 1)
        elif last and word in _AFTER_DEGREES:
            qualifiers.add(_GROUP[_AFTER_DEGREES[word]])
        elif currency and word in _SHORT_SCALES and position == 0:
            scale *= _SHORT_SCALES[word]
        elif (times := _scale(lower)) is not None:
            scale *= times
        elif lower in ("percent", "percentage", "pct"):
            percent = True
        elif lower in _POWERS and rest and units_named(rest[0][1]):
            power = _POWERS[lower]
        elif lower in _AFTER_POWERS and factors:
            factors[-1] = (factors[-1][0], factors[-1][1] * _AFTER_POWERS[lower])
        elif (qualifier := _qualifier(lower)) is not None:
            qualifiers.add(qualifier)
            guesses += [] if in_text or _CLOCK.fullmatch(value) or len(lower) > 2 else [word]
        elif lower in _CHANGERS | _MATHEMATICS and not _is_of_a_noun(lower, rest):
            changers.add(lower)
        elif (
            (readings := units_named(word))
            and (not broken or sign < 0)
            and not (word == "in" and rest and rest[0][0] == "word")
        ):
            factors.append((readings, sign * power))
            guesses += [] if in_text or len(word) > 3 or word in _FREE_SHORT else [word]
            power = 1
        elif word[-1:] in ("2", "3") and units_named(word[:-1]):
            factors.append((units_named(word[:-1]), sign * int(word[-1])))
        elif lower in _FILLERS:
            continue
        elif not word.isascii():
            factors, scale = _chinese(word, factors, scale, sign)
        elif len(word) < 2:
            raise _Opaque
        else:
            if not in_text and not _is_noun(word):
                raise _Opaque
            guesses += [] if in_text or len(word) > 4 else [word]
            nouns.add(lower.removesuffix("s"))
            broken = True
    if percent:
        value += "\\%"
    number = read_number(value)
    tops = [(readings, times) for readings, times in factors if times > 0]
    return Part(
        value,
        replace(number, value=number.value * scale) if number else None,
        scale,
        products(factors) if factors else (),
        products(tops) if tops and len(tops) < len(factors) else (),
        frozenset(nouns),
        frozenset(qualifiers),
        frozenset(changers),
        condition,
        worded=bool(words or condition or currency),
    )


def _scale(word: str) -> Fraction | None:
    """What ``word`` multiplies a number by: million, thousandths."""
    if word in _FRACTIONS:
        return Fraction(1, _FRACTIONS[word])
    size = _SCALES.get(word) or _SCALES.get(word.removesuffix("s"))
    return Fraction(size) if size else None


def _qualifier(word: str) -> tuple[int, str] | None:
    word = word.rstrip(".")
    word = _SAME.get(word, word)
    return _GROUP.get(word) or _GROUP.get(word.removesuffix("s"))


def _is_of_a_noun(word: str, rest: list[Token]) -> bool:
    """The ten of ten-dollar bills."""
    return word in _NUMBER_WORDS and len(rest) > 1 and rest[0][1] == "-" and rest[1][1].lower() not in _CHANGERS


def _is_noun(word: str) -> bool:
    """Whether a bare word behind a number is one, not a product of letters such as abc or RST."""
    lower = word.lower()
    if len(word) < 3 or not word.isalpha() or not (word[1:].islower() and re.search("[aeiouy]", lower)):
        return False
    return lower not in _MATHEMATICS and not (len(word) < 6 and all(map(operator.lt, word, word[1:])))


def _names_degrees(readings: tuple[Unit, ...]) -> bool:
    return any(unit.dimension == (("degree", 1),) for unit in readings)


def _chinese(
    word: str, factors: list[tuple[tuple[Unit, ...], int]], scale: Fraction, sign: int
) -> tuple[list[tuple[tuple[Unit, ...], int]], Fraction]:
    """Words that no space parts: 5万元 is 50000 yuan."""
    factors = list(factors)
    while word:
        name = next((word[:size] for size in (4, 3, 2, 1) if units_named(word[:size])), "")
        if name:
            factors.append((units_named(name), sign))
        elif (times := _scale(word[0])) is not None:
            scale *= times
        elif word[0] not in _COUNTED:
            raise _Opaque
        word = word[len(name) or 1 :]
    return factors, scale
