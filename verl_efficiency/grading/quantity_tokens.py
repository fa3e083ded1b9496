r"""Cut a text into the tokens of quantities (numbers, words, signs), and the tokens into one item for each quantity."""

import re
from collections.abc import Iterator

from verl_efficiency.grading.words import CONDITIONS

_TOKEN = re.compile(  # one word, number or sign; a \text{} with its content
    r"""\\(?:text(?:normal|bf|it|rm)?|mathrm|mbox)\s*\{(?P<text>[^{}]*)\}
    | (?P<space>(?:\s|~|\\[,;:!> ]|\\q?quad(?![A-Za-z]))+)
    | (?P<degree>\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\}))
    | (?P<power>\^\s*(?:\{\s*-?[0-9]\s*\}|-?[0-9](?![0-9])))                        # the ^2 of cm^2
    | (?P<currency>\\?\$|[€£¥₹₩₽₱₦¢])
    | (?P<number>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])|[0-9]+)
    | (?P<word>[kM]?Ω|[A-Za-z](?:\.\s?[A-Za-z]\.?(?![A-Za-z])|[A-Za-z]*(?:(?<=cm|mm|km|ft|in)[23](?![0-9])|(?<=[a-z])'[a-z]+)?)
      | [µμ][A-Za-z]+ | [一-鿿]+ | [가-힣]+)                                          # also a.m., cm2, o'clock
    | (?P<open>\\\{|[({\[]) | (?P<close>\\\}|[)}\]])
    | (?P<comma>[,;，、；])
    | (?P<times>\\(?:cdot|times)(?![A-Za-z])|[*·⋅])
    | (?P<other>\\[A-Za-z]+|\\.|.)""",
    re.VERBOSE | re.DOTALL,
)
_CURRENCY_CODE = re.compile(  # a currency before a number: Rs. 500, US $500, \text{INR} 500
    r"""(?<![A-Za-z\\])(?:(?P<inr>(?i:rs|inr)\b\.?|\\text\s?\{\s?(?i:rs|inr)\.?\s?\})
    | (?P<usd>USD|US(?=\s?\\?\$)|\\text\s?\{\s?US\s?\}(?=\s?\\?\$))
    | (?P<eur>EUR|\\euro(?![A-Za-z])) | (?P<gbp>GBP|\\pounds(?![A-Za-z])) | (?P<cny>CNY|RMB))
    (?:\s|~|\\[ ,]){0,4}\\?\$?(?=\s?[0-9.])""",
    re.VERBOSE,
)
_CURRENCIES = {"inr": "₹", "usd": "\\$", "eur": "€", "gbp": "£", "cny": "¥"}
_LAYOUT = re.compile(r"\\(?:left|right)(?![a-zA-Z])|\\!")
_MICRO = re.compile(r"\\mu\s?(\\(?:text|mathrm)\s?\{)\s?|(\\(?:text|mathrm)\s?\{\s?)\\mu\s?")  # \mu\text{m}
_DOLLAR = re.compile(r"(?<!\\)\$")
_BRACKET = re.compile(r"\\[{}]|[()\[\]]")

Token = tuple[str, str, bool, bool]  # kind, text, whether it stands in \text{}, whether a blank stands before it
_END: Token = ("comma", ",", False, False)


def without_layout(text: str) -> str:
    r"""``text`` without layout, with one sign for each currency.

    >>> without_layout(r"\text{INR} 500"), without_layout(r"$5\,\mu\text{m}$")
    ('₹500', '5\\,\\text{µm}')
    """
    text = _MICRO.sub(r"\1\2µ", _LAYOUT.sub("", text.strip()))
    text = _CURRENCY_CODE.sub(lambda code: _CURRENCIES[code.lastgroup or ""], text)
    return text if len(_DOLLAR.findall(text)) == 1 else _DOLLAR.sub("", text)


def brackets_around(text: str) -> tuple[tuple[str, str], str]:
    """The brackets around all of ``text``, and what they hold. TeX's braces around all of it mean nothing."""
    if text.startswith("{") and text.endswith("}") and "{" not in text[1:-1] and "}" not in text[1:-1]:
        text = text[1:-1].strip()
    for opening, closing in (("\\{", "\\}"), ("(", ")"), ("[", "]")):
        if text.startswith(opening) and text.endswith(closing):
            inside, depth = text[len(opening) : -len(closing)], 0
            for bracket in _BRACKET.findall(inside):
                depth += 1 if bracket in ("\\{", "(", "[") else -1
                if depth < 0:
                    return ("", ""), text
            return (opening, closing), inside
    return ("", ""), text


def tokens(text: str, in_text: bool = False) -> Iterator[Token]:
    """Words, numbers and signs. Everything in brackets or braces is mathematics."""
    space, depth, before = False, 0, ""
    for match in _TOKEN.finditer(text):
        kind, word = match.lastgroup or "", match[0]
        if kind == "space":
            space = True
        elif kind == "text" and depth == 0 and before not in ("_", "^"):
            yield from tokens(match["text"], in_text=True)
            space = True
        else:
            depth += 0 if in_text else (kind == "open") - (kind == "close")
            inner = depth > 0 or kind in ("open", "close", "text")
            yield ("math" if inner and not in_text else kind), word, in_text, space
            space, before = False, word


def items_of(text: str) -> list[list[Token]]:
    """The tokens between commas, "and" and "or". Words alone, and the rest of a condition, belong to the item before."""
    items: list[list[Token]] = []
    item: list[Token] = []
    joint: list[Token] = []  # the "or" before the item
    for token in [*tokens(text), _END]:
        separates = token[0] == "word" and token[1].lower() in ("and", "or", "和", "或")
        if token[0] != "comma" and not separates:
            item.append(token)
            continue
        if items and item and _goes_on(items[-1], item):
            items[-1] += joint + item
        elif item:
            items.append(item)
        item, joint = [], [token] if separates and token[1].lower() in ("or", "或") else []
    return items


def _goes_on(before: list[Token], item: list[Token]) -> bool:
    if all(kind == "word" and (in_text or len(word) > 2) for kind, word, in_text, _ in item):
        return not _has_condition(item)
    has_value = any(kind == "number" for kind, *_ in item)
    return _has_condition(before) and not has_value and not _has_condition(item)


def _has_condition(item: list[Token]) -> bool:
    return any(kind == "word" and word.lower() in CONDITIONS for kind, word, *_ in item)
