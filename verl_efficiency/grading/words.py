"""Words that stand beside a number, by what they do to it."""

import operator
import re
from fractions import Fraction


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


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
_SHARES = ["halves", "thirds", "fourths", "fifths", "sixths", "sevenths", "eighths", "ninths", "tenths"]
_FRACTIONS = {share: Fraction(1, number) for number, share in enumerate(_SHARES, 2)}
_FRACTIONS |= {f"{word}ths": Fraction(1, _SCALES[word]) for word in ("hundred", "thousand", "million", "billion")}
SCALES_OF_MONEY = {"k": 1000, "K": 1000, "M": 10**6, "B": 10**9, "bn": 10**9}  # \$5k

_OPPOSITES = [
    *("am pm", "even odd", "clockwise counterclockwise", "more less", "above below", "before after", "ahead behind"),
    *(
        "faster slower",
        "older younger",
        "taller longer shorter",
        "earlier later",
        "boy girl",
        "man woman",
        "male female",
    ),
    *(
        "head tail",
        "inside outside",
        "maximum minimum",
        "win lose",
        "left right",
        "up down",
        "bce ad",
        "rational irrational",
    ),
    *("prime composite", "finite infinite", "parallel perpendicular", "increase decrease", "profit loss", "true false"),
    *("open closed", "convergent divergent", "hit miss", "parent child"),
    "north south east west northeast northwest southeast southwest",
    "monday tuesday wednesday thursday friday saturday sunday",
    "january february march april june july august september october november december",
    "red blue green yellow white black orange purple pink brown",
]
_GROUP = {word: (group, word) for group, members in enumerate(_OPPOSITES) for word in members.split()}
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
AM_PM = _GROUP["am"][0]
DIRECTIONS = {letter: _GROUP[word] for letter, word in (("N", "north"), ("S", "south"), ("E", "east"), ("W", "west"))}

_NUMBER_WORDS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty fifty sixty seventy eighty ninety half"
)
# Words that change the value in another way than those above, or bring in a second one.
CHANGERS = _NUMBER_WORDS | _words(
    "or nor not but either neither never no non wrong incorrect instead rather actually maybe perhaps possibly versus vs least "
    "most than except without minus plus squared cubed factorial infinity undefined unknown answer answers isn't aren't to "
    "between under over negative imaginary twice thrice doubled tripled halved pair pairs gross reciprocal repeating"
)
MATHEMATICS = _words(
    "pi sqrt root sin cos tan cot csc arcsin arccos arctan sinh cosh tanh log ln lg exp gcd lcm max mod modulo det choose "
    "lim arg dim ker sup div rem abs sgn iff cis"
)
FILLERS = _words(
    "of the is are was were be will in on at total exactly about approximately approx around roughly only just all each "
    "altogether a an"
)
CONDITIONS = _words("if when whenever for where unless otherwise provided assuming")
PER = _words("a an each every")
POWERS_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
POWERS_AFTER = {"squared": 2, "cubed": 3}
TEMPERATURES = {"C": "celsius", "F": "fahrenheit", "K": "K"} | {
    word: word for word in ("celsius", "fahrenheit", "centigrade")
}
COUNTED = frozenset("个個人名本次岁歲只件张張辆輛条條块塊页頁种種位台棵支개명")


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
    """Whether a word in lower case changes the value; the ten of ten-dollar bills does not."""
    if word in _NUMBER_WORDS and len(following) > 1 and following[0] == "-" and following[1].lower() not in CHANGERS:
        return False
    return word in CHANGERS or word in MATHEMATICS


def is_noun(word: str) -> bool:
    """Whether a bare word behind a number is a noun; abc and RST are products of letters.

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
