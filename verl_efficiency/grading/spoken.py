r"""Compare answers that are words with a mathematical meaning: "no solution" and ``\emptyset``, "all reals" and ``\mathbb{R}``.

A text has a meaning here only where every word of it is known. A condition, an exception or a second answer leaves it without
one: "no solution or 3", "all reals below 2". A phrase never equals a number.

A phrase can have several meanings: "no such function exists" is "no solution", "does not exist" and "no". Two phrases agree
where they share a meaning. ``\infty`` also answers "infinitely many".
"""

import re
from functools import lru_cache

from verl_efficiency.grading.quick import PRINT, SPACE

_LONGEST = 150  # characters of a phrase
_PRINTED = re.compile(rf"{PRINT}\s*\{{([^{{}}]*)\}}")
_LAYOUT = re.compile(rf"\\(?:left|right|displaystyle)(?![a-zA-Z])|\\!|\$|[{{}}]|[.,;:!]+(?=[\s\\{{}})]|$)|{SPACE}")
_NAMED_SET = re.compile(  # \mathbb{R}, \mathbb{Z}^+
    r"\\(?:mathbb|Bbb)\s*\{?\s*(?P<letter>[NZQRC])\s*\}?(?P<positive>\s*[\^_]\s*\{?\s*\+\s*\}?)?(?!\s*[\^_])"
)
_OF_LETTER = {"N": "natural", "Z": "integer", "Q": "rational", "R": "real", "C": "complex"}
_SIGNS = [  # LaTeX, and the words that it stands for
    (re.compile(pattern), words)
    for pattern, words in (
        (
            r"\\(?:emptyset|varnothing)(?![a-zA-Z])|\\(?:left\s*\\)?\{(?:\s|\\[,;! ])*\\(?:right\s*\\)?\}|∅",
            " empty set ",
        ),
        (r"\\infty(?![a-zA-Z])|∞", " infinity "),
        (r"\\in(?![a-zA-Z])|∈", " in "),
        (r"\\forall(?![a-zA-Z])|∀", " all "),
        (r"\\R(?![a-zA-Z])|ℝ", r"\\mathbb{R}"),
        (r"ℤ", r"\\mathbb{Z}"),
        ("’", "'"),
    )
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Sets of numbers, as in "all positive integers x": each word, and what it says about a number.
_KINDS = {word: word for word in _words("real integer rational irrational complex prime composite odd even")}
_KINDS |= {word: word for word in _words("positive negative nonnegative nonpositive nonzero")}
_KINDS |= {f"{word}s": word for word in _words("real integer rational prime")}
_KINDS |= dict.fromkeys(("natural", "naturals"), "positive integer")
_QUANTIFIERS = _words("all any every each")
_PLURALS = _words("numbers values reals integers rationals primes naturals")
_LINKS = _words("the set of for a an is can be in number value") | _PLURALS
_UNKNOWN = re.compile("[a-z]")
_NOTATION = {  # as the next steps read them
    "all real": r"\mathbb{R}",
    "all nonzero real": r"\mathbb{R}\setminus\{0\}",
    "all positive real": r"(0,\infty)",
    "all negative real": r"(-\infty,0)",
    "all nonnegative real": r"[0,\infty)",
    "all nonpositive real": r"(-\infty,0]",
    "all integer": r"\mathbb{Z}",
}

_SUBJECT = (
    r"(?:(?:the|this|that|it|there|they|[a-z]) (?:(?:given|equation|equations|system|inequality|problem|set|answer|series"
    r"|sequence|integral|limit|sum|expression|value|derivative|inverse|slope|solution|solutions|of) ){0,3})?"
)
_SOLUTION = r"(?:solution|root|zero|value)"
_WHERE = (
    r"(?: exists?)?(?: (?:in|over) (?:the |all )?real(?:s| numbers?))?"
    r"(?: (?:for|to|of) (?:[a-z]|(?:the|this) (?:given )?(?:equation|system|inequality)))?"
)
_NOT = r"(?:does not|do not|doesn't|don't|cannot|can't)"
_IT = r"(?:it|they|this|that|he|she|there|we|one|you)"
_DOES = r"(?:is|are|does|do|can|will|has|have|was|were)"
_COUNTED = r"(?:solutions?|roots?|values?|zeros?|pairs?|triples?|points?|ways?|numbers?|integers?)"
_PHRASES = [  # words, and what they mean; the first line that fits counts
    (re.compile(pattern), frozenset(meanings.split(", ")))
    for pattern, meanings in (
        (rf"{_SUBJECT}(?:(?:is|=|in) )?(?:an? |the )?(?:empty|null) set", "empty"),
        (rf"{_SUBJECT}(?:(?:is|are|=|has|have|exists?) )?no (?:real )?{_SOLUTION}s?{_WHERE}", "empty"),
        (r"(?:[a-z] = )?none(?: exists?)?", "empty, missing"),
        (
            r"no such [a-z]+(?: [a-z]+)?(?: exists?)?|such (?:an? )?[a-z]+(?: [a-z]+)? (?:does|do) not exist",
            "empty, missing, no",
        ),
        (rf"{_SUBJECT}(?:(?:is|are) )?(?:undefined|not defined|nonexistent)|(?:{_SUBJECT}= )?dne", "missing"),
        (rf"{_SUBJECT}(?:does not|doesn't|do not|don't) exist|no limit(?: exists)?", "missing"),
        (rf"{_SUBJECT}(?:diverges?|(?:is |are )?divergent|{_NOT} converge)", "diverges"),
        (rf"{_SUBJECT}(?:(?:is|=|(?:diverges|goes|tends) to) )?(?:\+ ?|positive )?infinity", "infinity, many"),
        (rf"{_SUBJECT}(?:(?:is|=|(?:diverges|goes|tends) to) )?(?:- ?|negative |minus )infinity", "-infinity"),
        (
            rf"{_SUBJECT}(?:(?:has|have|is|are) )?(?:infinitely many|an infinite number(?: of)?|infinite)(?: {_COUNTED})?",
            "many",
        ),
        (rf"yes(?: {_IT} {_DOES})?", "yes"),
        (rf"no(?: {_IT} (?:{_DOES} not|(?:is|are|does|do|has|was|were)n't|{_NOT}))?", "no"),
        (
            r"(?:[a-z] in )?\( ?- ?infinity ,? ?\+? ?infinity ?\)|- ?infinity ?< ?[a-z] ?< ?\+? ?infinity",
            "all real",
        ),
    )
]
_NONE_WITH = re.compile(rf"no (?P<kinds>(?:[a-z]+ )+)(?P<noun>{_SOLUTION})s?(?: exists?)?")  # no positive solutions
# An exception, as in "all real numbers except 2 and 3".
_EXCEPT = re.compile(r"\b(?:except(?:\s+for)?|other\s+than|excluding)(?![a-zA-Z])")
_OPENED = re.compile(rf"{PRINT}\s*\{{")
_AND = re.compile(rf"(?:{_OPENED.pattern})?\s*(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])\s*(?:\}})?")
_WORD = re.compile(r"(?<![\\a-zA-Z])[A-Za-z]{2,}|\\(?:text|mathrm|mbox)(?![a-zA-Z])|[=<>]")


def compare_phrases(answer: str, gold: str) -> tuple[bool | None, str, str]:
    r"""Whether two phrases agree, with ``None`` where one of them is not known, and both texts for the next steps.

    A phrase for a set of real numbers comes back as that set.

    >>> compare_phrases(r"\text{No solutions.}", r"\emptyset")[0], compare_phrases("DNE", "no solution")[0]
    (True, False)
    >>> compare_phrases(r"\text{all real } x", "x > a"), compare_phrases("no solution or 3", "3")[0]
    ((None, '\\mathbb{R}', 'x > a'), None)
    >>> compare_phrases(r"\text{all real numbers except } 2", "x > a")[1]
    '\\mathbb{R}\\setminus\\{2\\}'
    """
    left, right = meanings(answer), meanings(gold)
    if left and right:
        return bool(left & right), answer, gold
    return None, _in_notation(answer, left), _in_notation(gold, right)


@lru_cache(maxsize=256)  # one reference, many answers
def meanings(text: str) -> frozenset[str]:
    r"""What a phrase means; empty where one word of it is not known.

    >>> sorted(meanings(r"\text{the equation has no real solutions}")), sorted(meanings("for all real numbers x"))
    (['empty'], ['all real'])
    >>> sorted(meanings("no such function exists")), sorted(meanings("no positive solutions"))
    (['empty', 'missing', 'no'], ['no positive solution'])
    >>> [sorted(meanings(text)) for text in ("all reals below 2", "real", "0", "yes or no")]
    [[], [], [], []]
    """
    if len(text) > _LONGEST or not text or any(digit in text for digit in "0123456789"):
        return frozenset()
    spoken = _spoken(text)
    known = next((known for pattern, known in _PHRASES if pattern.fullmatch(spoken)), None)
    if known:
        return known
    found = _numbers(spoken) or _none_with(spoken)
    return frozenset((found,)) if found else frozenset()


def _spoken(text: str) -> str:
    """``text`` in lower case, with words for signs, and without layout."""
    for sign, words in _SIGNS:
        text = sign.sub(words, text)
    text = _PRINTED.sub(r" \1 ", _NAMED_SET.sub(_named_set, text))
    return " ".join(_LAYOUT.sub(" ", text).lower().replace("non-", "non").split())


def _named_set(sign: re.Match[str]) -> str:
    """The words for a set of numbers that has its own letter."""
    return f" all {'positive ' if sign['positive'] else ''}{_OF_LETTER[sign['letter']]} numbers "


def _numbers(spoken: str) -> str | None:
    """The set of numbers that a phrase names: "all integer positive" for "every positive integer n"."""
    words = [word for word in spoken.split() if not _UNKNOWN.fullmatch(word)]
    letters = {word for word in spoken.split() if _UNKNOWN.fullmatch(word)} - {"a"}
    if len(letters) > 1 or (_QUANTIFIERS | _PLURALS).isdisjoint(words):
        return None
    if not all(word in _KINDS or word in _LINKS or word in _QUANTIFIERS for word in words):
        return None
    kinds = {kind for word in words for kind in _KINDS.get(word, "").split()}
    return f"all {' '.join(sorted(kinds))}" if kinds else None


def _none_with(spoken: str) -> str | None:
    """The meaning of "no positive solutions", with the noun in the singular."""
    named = _NONE_WITH.fullmatch(spoken)
    known = named is not None and all(word in _KINDS for word in named["kinds"].split())
    return f"no {named['kinds']}{named['noun']}" if named and known else None


def _in_notation(text: str, known: frozenset[str]) -> str:
    r"""A set of real numbers in signs: ``\mathbb{R}\setminus\{2\}`` for "all real numbers except 2"."""
    for meaning in known:
        return _NOTATION.get(meaning, text)
    if len(text) > _LONGEST or not (found := _EXCEPT.search(text)):
        return text
    numbers = re.sub(r"^[a-z]\s*=\s*", "", _AND.sub(",", text[found.end() :]).strip(" ~}"))
    numbers += "}" * (numbers.count("{") - numbers.count("}"))
    if not numbers or _WORD.search(numbers) or meanings(_OPENED.sub(" ", text[: found.start()])) != {"all real"}:
        return text
    return rf"\mathbb{{R}}\setminus\{{{numbers}\}}"
