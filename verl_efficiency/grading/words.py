r"""What the words beside a number mean: units, scales such as ``million``, opposites, fillers, and so on.

A word can name several units: ``pounds`` are a mass and money, ``minutes`` are a time and an angle. Every meaning is kept, and
two words agree where one meaning of each does.
"""

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

# Each line: base units with their powers, then names of this dimension, each group after its factor. A name with "*" takes SI
# prefixes: symbols before a symbol (km, mg), words before a word (kilometer). A name with ":1000" is 1000 times larger. Case
# matters: mW and MW are different units.
_TABLE = """
m : 1 m* meter* metre* 米; 0.01 厘米; 0.001 毫米; 1000 千米 公里; 0.0254 in inch inches; 0.3048 ft foot feet; 0.9144 yd yard
m : 1609.344 mi mile; 1852 nmi; 1e-10 Å angstrom
s : 1 s* sec second* 秒; 60 min minute 分钟; 3600 h hr hour 小时; 86400 d day 天; 604800 wk week 周
month : 1 mo month; 12 yr year 年; 120 decade; 1200 century centuries
g : 1 g* gram* gm gms 克; 1000 千克 公斤; 1000000 t ton tonne 吨; 907184.74 ton; 453.59237 lb lbs pound; 28.349523125 oz ounce
m^3 : 0.001 L* l* liter* litre* 升; 0.000001 cc 毫升; 0.003785411784 gal gallon; 0.000946352946 qt quart
m^3 : 0.000473176473 pt pint; 0.0002365882365 cup; 0.0000295735295625 oz ounce; 1 立方米; 0.000001 立方厘米
m^2 : 4046.8564224 acre; 10000 ha hectare; 1 平方米; 0.0001 平方厘米; 1000000 平方千米 平方公里
m s^-1 : 1 mps; 1609.344/3600 mph; 1000/3600 kmph kph kmh; 1852/3600 knot
s^-1 : 1 Hz* hertz*
turn : 1 rev revolution
turn s^-1 : 1/60 rpm
g m s^-2 : 1000 N* newton*; 0.01 dyn dyne
g m^2 s^-2 : 1000 J* joule*; 0.0001 erg; 4184 kcal; 4.184 cal calorie; 3600000000 kWh; 1.602176634e-16 eV* electronvolt*
g m^2 s^-3 : 1000 W* watt*
g m^-1 s^-2 : 1000 Pa* pascal*; 100000000 bar; 101325000 atm atmosphere
A : 1 A* amp ampere*
A s : 1 C* coulomb*
g m^2 s^-3 A^-1 : 1000 V* volt*
g m^2 s^-3 A^-2 : 1000 ohm* Ω*
g^-1 m^-2 s^4 A^2 : 1e-3 F* farad*
g m^2 s^-2 A^-2 : 1000 H* henry
g s^-2 A^-1 : 1000 T* tesla*; 0.1 G gauss
mol : 1 mol* mole*
mol m^-3 : 1000 M molar; 1 mM
K : 1 K kelvin
degree : 1 degree deg ° 度; 1/60 minute arcminute '; 1/3600 second arcsecond ''
Celsius : 1 °C C celsius centigrade degree deg °
Fahrenheit : 1 °F F fahrenheit degree deg °
radian : 1 rad radian
byte : 1 B byte kB:1000 KB:1000 MB:1000000 GB:1000000000 TB:1000000000000; 1/8 bit
USD : 1 $ USD dollar buck; 0.01 ¢ cent
EUR : 1 € EUR euro; 0.01 cent
GBP : 1 £ GBP pound quid; 0.01 p pence penny
USD : 0.01 penny pennies
INR : 1 ₹ Rs rs Re INR rupee; 0.01 paisa paise
CNY : 1 ¥ RMB CNY yuan 元
JPY : 1 ¥ JPY yen 円
KRW : 1 ₩ KRW 원
RUB : 1 ₽ RUB
PHP : 1 ₱ PHP peso
NGN : 1 ₦ NGN naira
count : 1 count; 12 dozen
"""
_PREFIX_SYMBOLS = {"n": "1e-9", "u": "1e-6", "µ": "1e-6", "μ": "1e-6", "m": "1e-3", "c": "1e-2", "d": "1e-1"}
_PREFIX_SYMBOLS |= {"k": "1e3", "M": "1e6", "G": "1e9", "T": "1e12"}
_PREFIX_WORDS = {"nano": "1e-9", "micro": "1e-6", "milli": "1e-3", "centi": "1e-2", "deci": "1e-1"}
_PREFIX_WORDS |= {"kilo": "1e3", "mega": "1e6", "giga": "1e9"}


@dataclass(frozen=True)
class Unit:
    """``factor`` times the base units in ``dimension``: sorted pairs of a base unit and its power, none of power 0."""

    factor: Fraction
    dimension: tuple[tuple[str, int], ...]

    def __mul__(self, other: "Unit") -> "Unit":
        powers = dict(self.dimension)
        for base, power in other.dimension:
            powers[base] = powers.get(base, 0) + power
        return Unit(self.factor * other.factor, _sorted(powers))

    def __pow__(self, power: int) -> "Unit":
        return Unit(self.factor**power, _sorted({base: power * old for base, old in self.dimension}))


NO_UNIT = Unit(Fraction(1), ())


def _sorted(powers: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((base, power) for base, power in powers.items() if power))


@lru_cache(maxsize=1)
def _units() -> dict[str, tuple[Unit, ...]]:
    """Every name in the table, with and without prefixes, and the units that it can mean."""
    units: dict[str, tuple[Unit, ...]] = {}
    for line in _TABLE.strip().splitlines():
        bases, groups = line.split(" : ")
        dimension = NO_UNIT
        for base in bases.split():
            name, _, power = base.partition("^")
            dimension *= Unit(Fraction(1), ((name, int(power or 1)),))
        for group in groups.split("; "):
            size, *names = group.split()
            numerator, _, denominator = size.partition("/")
            factor = Fraction(numerator) / Fraction(denominator or 1)
            for name in names:
                name, _, times = name.partition(":")
                plain = name.rstrip("*")
                prefixes = _PREFIX_SYMBOLS if len(plain) <= 3 and plain != "ohm" else _PREFIX_WORDS
                for prefix, size in {"": times or "1", **(prefixes if plain != name else {})}.items():
                    unit = Unit(factor * Fraction(size), dimension.dimension)
                    units[prefix + plain] = (*units.get(prefix + plain, ()), unit)
    return units


def units_named(word: str) -> tuple[Unit, ...]:
    """Every unit that ``word`` can mean: as written, in lower case, or without the plural's s. Empty for any other word.

    >>> len(units_named("pounds")), units_named("cm")[0].factor, units_named("KM") == units_named("km"), units_named("apples")
    (2, Fraction(1, 100), True, ())
    """
    units, lower = _units(), word.lower()
    for name in (word, lower, lower.removesuffix("s")):
        if name in units and (name == word or len(name) > 1):
            return units[name]
    return ()


def products(choices: Iterable[tuple[tuple[Unit, ...], int]]) -> tuple[Unit, ...]:
    """Every product of one meaning of each unit, raised to the power beside it; at most 16."""
    found: tuple[Unit, ...] = (NO_UNIT,)
    for meanings, power in choices:
        found = tuple(dict.fromkeys(one * meaning**power for one in found for meaning in meanings))[:16]
    return found


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What a word multiplies the number before it by: 5 million, 3 tenths.
_SCALES = {
    "tens": 10,
    "hundred": 100,
    "thousand": 1000,
    "lakh": 10**5,
    "million": 10**6,
    "crore": 10**7,
    "billion": 10**9,
}
_SCALES |= {"trillion": 10**12, "千": 1000, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_SHARES = "halves thirds fourths fifths sixths sevenths eighths ninths tenths"
_FRACTIONS = {share: Fraction(1, number) for number, share in enumerate(_SHARES.split(), 2)}
_FRACTIONS |= {f"{word}ths": Fraction(1, _SCALES[word]) for word in ("hundred", "thousand", "million", "billion")}
SCALES_OF_MONEY = {"k": 1000, "K": 1000, "M": 10**6, "B": 10**9, "bn": 10**9}  # \$5k

# Groups of words that exclude each other: 5 degrees north are not 5 degrees south.
_OPPOSITES = """
am pm; even odd; clockwise counterclockwise; more less; above below; before after; ahead behind
faster slower; older younger; taller longer shorter; earlier later; boy girl; man woman; male female
head tail; inside outside; maximum minimum; win lose; left right; up down; bce ad; rational irrational
prime composite; finite infinite; parallel perpendicular; increase decrease; profit loss
open closed; convergent divergent; hit miss; parent child
north south east west northeast northwest southeast southwest
monday tuesday wednesday thursday friday saturday sunday
january february march april june july august september october november december
red blue green yellow white black orange purple pink brown
"""
_GROUP = {
    word: (group, word)
    for group, members in enumerate(_OPPOSITES.strip().replace("\n", ";").split(";"))
    for word in members.split()
}
# Other words for the same: 7 in the evening is 7 pm.
_SAME = {"a.m": "am", "p.m": "pm", "morning": "am", "afternoon": "pm", "evening": "pm"}
_SAME |= {"anticlockwise": "counterclockwise", "won": "win", "lost": "lose", "reduction": "decrease"}
_SAME |= {"fewer": "less", "gain": "profit", "men": "man", "women": "woman", "upward": "up", "downward": "down"}
_SAME |= {"increased": "increase", "decreased": "decrease"}
AM_PM = _GROUP["am"][0]
DIRECTIONS = {letter: _GROUP[word] for letter, word in (("N", "north"), ("S", "south"), ("E", "east"), ("W", "west"))}

_NUMBER_WORDS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty fifty sixty seventy eighty ninety half"
)
# Words that take a value back, or put another in its place: "3 is false", "perhaps 4".
DENIALS = _words(
    "false wrong incorrect invalid excluded rejected extraneous except versus perhaps maybe possibly instead rather"
)
# Words that change the value in another way, or bring in a second value: "5 or 6", "5 squared", "not 5".
CHANGERS = (_NUMBER_WORDS | DENIALS) | _words(
    "or nor not but either neither never no non actually vs least most than without minus plus squared cubed factorial "
    "infinity undefined unknown answer answers isn't aren't to between under over negative imaginary twice thrice doubled "
    "tripled halved pair pairs gross reciprocal repeating"
)
# Names of functions and constants, which are neither units nor nouns: "5 pi".
MATHEMATICS = _words(
    "pi sqrt root sin cos tan cot csc arcsin arccos arctan sinh cosh tanh log ln lg exp gcd lcm max mod modulo det choose "
    "lim arg dim ker sup div rem abs sgn iff cis"
)
# Words that add no meaning: "a total of 5".
FILLERS = _words(
    "of the is are was were be will in on at total exactly about approximately approx around roughly only just all each "
    "altogether a an"
)
CONDITIONS = _words("if when whenever for where unless otherwise provided assuming")  # 3 if n is even
PER = _words("a an each every")  # 5 dollars a day
POWERS_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}  # square meters
POWERS_AFTER = {"squared": 2, "cubed": 3}  # meters squared
TEMPERATURES = {"C": "celsius", "F": "fahrenheit", "K": "K"}  # the C of 5°C
TEMPERATURES |= {word: word for word in ("celsius", "fahrenheit", "centigrade")}
COUNTED = frozenset(
    "个個人名本次岁歲只件张張辆輛条條块塊页頁种種位台棵支개명"
)  # measure words of Chinese and Korean: 5个


def scale_of(word: str) -> Fraction | None:
    """What a word in lower case multiplies the number before it by.

    >>> scale_of("million"), scale_of("thousandths"), scale_of("apples")
    (Fraction(1000000, 1), Fraction(1, 1000), None)
    """
    if word in _FRACTIONS:
        return _FRACTIONS[word]
    size = _SCALES.get(word) or _SCALES.get(word.removesuffix("s"))
    return Fraction(size) if size else None


def qualifier(word: str) -> tuple[int, str] | None:
    """The group of opposites that a word in lower case belongs to, and the word in its usual form.

    >>> qualifier("p.m.") == qualifier("evening"), qualifier("girls") == qualifier("boys"), qualifier("apples")
    (True, False, None)
    """
    word = word.rstrip(".")
    word = _SAME.get(word, word)
    return _GROUP.get(word) or _GROUP.get(word.removesuffix("s"))


def changes(word: str, following: list[str]) -> bool:
    """Whether a word in lower case changes the value. The ten of "ten-dollar bills" does not."""
    if word in _NUMBER_WORDS and len(following) > 1 and following[0] == "-" and following[1].lower() not in CHANGERS:
        return False
    return word in CHANGERS or word in MATHEMATICS


def is_noun(word: str) -> bool:
    """Whether a bare word after a number is a noun. Words such as abc and RST are products of letters.

    >>> [is_noun(word) for word in ("cups", "egg", "abc", "xyz", "RST", "sin")]
    [True, True, False, False, False, False]
    """
    lower = word.lower()
    if (
        len(word) < 3
        or not word.replace("'", "").isalpha()
        or word[1:] != lower[1:]
        or not re.search("[aeiouy]", lower)
    ):
        return False
    return lower not in MATHEMATICS and not (len(word) < 6 and all(map(operator.lt, word, word[1:])))
