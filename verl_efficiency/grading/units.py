r"""Units of measurement: what a word such as ``cm`` or ``hours`` multiplies a number by, and of which dimension it is.

A word can name several units: ``pounds`` are a mass and money, ``minutes`` are a time and an angle. Every reading is kept,
and two words agree where one reading of each does.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

# Each line: what the names stand for, as a factor and base units ("=" where the name is a base unit itself), then the names.
# A name with "*" takes the prefixes of SI: symbols before a symbol (km, mg), words before a word (kilometer). A name with a
# number behind a colon is that many times larger. Names that differ in case only, such as mW and MW, are different units.
_TABLE = """
1 = m : m* meter* metre*
0.0254 m : in inch inches
0.3048 m : ft foot feet
0.9144 m : yd yard
1609.344 m : mi mile
1852 m : nmi
1e-10 m : Å angstrom
1 = s : s* sec second*
60 s : min minute
3600 s : h hr hour
86400 s : d day
604800 s : wk week
1 = month : mo month
12 month : yr year
120 month : decade
1200 month : century centuries
1 = g : g* gram* gm gms
1000000 g : t ton tonne
907184.74 g : ton
453.59237 g : lb lbs pound
28.349523125 g : oz ounce
0.001 m^3 : L* l* liter* litre*
0.000001 m^3 : cc
0.003785411784 m^3 : gal gallon
0.000946352946 m^3 : qt quart
0.000473176473 m^3 : pt pint
0.0002365882365 m^3 : cup
0.0000295735295625 m^3 : oz ounce
4046.8564224 m^2 : acre
10000 m^2 : ha hectare
1 m s^-1 : mps
1609.344/3600 m s^-1 : mph
1000/3600 m s^-1 : kmph kph kmh
1852/3600 m s^-1 : knot
1 s^-1 : Hz* hertz*
1 = turn : rev revolution
1/60 turn s^-1 : rpm
1000 g m s^-2 : N* newton*
0.01 g m s^-2 : dyn dyne
1000 g m^2 s^-2 : J* joule*
0.0001 g m^2 s^-2 : erg
4184 g m^2 s^-2 : kcal
4.184 g m^2 s^-2 : cal calorie
3600000000 g m^2 s^-2 : kWh
1.602176634e-16 g m^2 s^-2 : eV* electronvolt*
1000 g m^2 s^-3 : W* watt*
1000 g m^-1 s^-2 : Pa* pascal*
100000000 g m^-1 s^-2 : bar
101325000 g m^-1 s^-2 : atm atmosphere
1 = A : A* amp ampere*
1 A s : C* coulomb*
1000 g m^2 s^-3 A^-1 : V* volt*
1000 g m^2 s^-3 A^-2 : ohm* Ω*
1e-3 g^-1 m^-2 s^4 A^2 : F* farad*
1000 g m^2 s^-2 A^-2 : H* henry
1000 g s^-2 A^-1 : T* tesla*
0.1 g s^-2 A^-1 : G gauss
1 = mol : mol* mole*
1000 mol m^-3 : M molar
1 mol m^-3 : mM
1 = K : K kelvin
1 = degree : degree deg °
1 = Celsius : °C C celsius centigrade degree deg °
1 = Fahrenheit : °F F fahrenheit degree deg °
1/60 degree : minute arcminute '
1/3600 degree : second arcsecond ''
1 = radian : rad radian
1 = byte : B byte kB:1000 KB:1000 MB:1000000 GB:1000000000 TB:1000000000000
1/8 byte : bit
1 = USD : $ USD dollar buck
0.01 USD : ¢ cent
1 = EUR : € EUR euro
0.01 EUR : cent
1 = GBP : £ GBP pound quid
0.01 GBP : p pence penny
0.01 USD : penny pennies
1 = INR : ₹ Rs Re INR rupee
0.01 INR : paisa paise
1 = CNY : ¥ RMB CNY yuan 元
1 = JPY : ¥ JPY yen 円
1 = KRW : ₩ KRW 원
1 = RUB : ₽ RUB
1 = PHP : ₱ PHP peso
1 = NGN : ₦ NGN naira
1 = count : count
12 count : dozen
1 m : 米
0.01 m : 厘米
0.001 m : 毫米
1000 m : 千米 公里
1 m^2 : 平方米
0.0001 m^2 : 平方厘米
1000000 m^2 : 平方千米 平方公里
1 m^3 : 立方米
0.000001 m^3 : 立方厘米
1 s : 秒
60 s : 分钟
3600 s : 小时
86400 s : 天
604800 s : 周
12 month : 年
1 g : 克
1000 g : 千克 公斤
1000000 g : 吨
0.001 m^3 : 升
0.000001 m^3 : 毫升
1 degree : 度
"""
_SYMBOLS = {"n": "1e-9", "u": "1e-6", "µ": "1e-6", "μ": "1e-6", "m": "1e-3", "c": "1e-2", "d": "1e-1", "k": "1e3"}
_SYMBOLS |= {"M": "1e6", "G": "1e9", "T": "1e12"}
_WORDS = {
    "nano": "1e-9",
    "micro": "1e-6",
    "milli": "1e-3",
    "centi": "1e-2",
    "deci": "1e-1",
    "kilo": "1e3",
    "mega": "1e6",
}
_WORDS["giga"] = "1e9"


@dataclass(frozen=True)
class Unit:
    """``factor`` times the base units in ``dimension``: pairs of a base unit and its power, sorted, none of power 0."""

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
    table: dict[str, tuple[Unit, ...]] = {}

    def add(name: str, unit: Unit) -> None:
        table[name] = (*table.get(name, ()), unit)

    for line in _TABLE.strip().splitlines():
        measure, names = line.split(" : ")
        factor, *bases = measure.split()
        if bases[0] == "=":
            bases = bases[1:]
        unit = Unit(Fraction(1), ())
        for base in bases:
            name, _, power = base.partition("^")
            unit *= Unit(Fraction(1), ((name, int(power or 1)),))
        numerator, _, denominator = factor.partition("/")
        unit = Unit(Fraction(numerator) / Fraction(denominator or 1), unit.dimension)
        for name in names.split():
            name, _, times = name.partition(":")
            plain = name.rstrip("*")
            add(plain, Unit(unit.factor * Fraction(times or 1), unit.dimension))
            if plain != name:
                prefixes = _SYMBOLS if len(plain) <= 3 and plain != "ohm" else _WORDS
                for prefix, size in prefixes.items():
                    add(prefix + plain, Unit(unit.factor * Fraction(size), unit.dimension))
    return table


def units_named(word: str) -> tuple[Unit, ...]:
    """Every unit that ``word`` can mean: as it stands, in lower case, without the plural's s; none if it is no unit.

    >>> len(units_named("pounds")), units_named("cm")[0].factor, units_named("KM") == units_named("km"), units_named("apples")
    (2, Fraction(1, 100), True, ())
    """
    table, lower = _units(), word.lower()
    for name in (word, lower, lower.removesuffix("s")):
        if name in table and (name == word or len(name) > 1):
            return table[name]
    return ()


def products(choices: Iterable[tuple[tuple[Unit, ...], int]]) -> tuple[Unit, ...]:
    """Every product of one reading of each unit, each raised to the power beside it; at most 16."""
    found: tuple[Unit, ...] = (NO_UNIT,)
    for readings, power in choices:
        found = tuple(dict.fromkeys(one * reading**power for one in found for reading in readings))[:16]
    return found
