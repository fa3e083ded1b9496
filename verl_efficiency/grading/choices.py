r"""Multiple choice: ``\textbf{(C)}\ 12``, as answers of contests are printed, is the answer C."""

import re

_LETTER = re.compile(r"\(?([A-J])\)?\.?")
_OPTION = re.compile(r"(?:\(([A-J])\)|([A-J])[).:])(?=\s)")
_ANOTHER = re.compile(r"(?<![A-Za-z\\])[A-J](?![A-Za-z])|\b(?:or|nor|not|neither|either)\b")


def same_choice(answer: str, gold: str) -> bool | None:
    r"""``True`` where one side is the letter of an option and the other the same letter with its text; else ``None``.

    Texts without commands of LaTeX that only print. A text that names a second option, or speaks of one, is no option's.

    >>> same_choice("(C) 12", "C"), same_choice("C", "(C) 12"), same_choice("(C) or (D)", "C"), same_choice("(B) 12", "C")
    (True, True, None, None)
    """
    for letter, option in ((gold, answer), (answer, gold)):
        alone, named = _LETTER.fullmatch(letter), _OPTION.match(option)
        if alone and named and alone[1] in named.groups() and not _ANOTHER.search(option, named.end()):
            return True
    return None
