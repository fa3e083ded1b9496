"""Answers made to crash, stall or cheat the grader. No exception, no overrun, no reward for what is wrong."""

import threading
import time

import pytest

from verl_efficiency.grading import PoolSettings, Status, configure, extract_answer, grade, grade_batch, shutdown
from verl_efficiency.grading.pool import get_pool

DEADLINE = 1.0


class Lateness(threading.Thread):
    """How late this machine wakes a sleeping thread, at worst. On a busy machine, the grader is not to blame for that."""

    def __init__(self):
        super().__init__(daemon=True)
        self.worst = 0.0
        self.running = True
        self.start()

    def run(self):
        while self.running:
            due = time.perf_counter() + 0.02
            time.sleep(0.02)
            self.worst = max(self.worst, time.perf_counter() - due)


@pytest.fixture(scope="module")
def lateness():
    watch = Lateness()
    yield watch
    watch.running = False


@pytest.fixture(autouse=True, scope="module")
def pool():
    configure(PoolSettings(workers=2))
    assert grade("x + 1", "1 + x").correct
    yield
    shutdown()


def box(answer: str) -> str:
    return f"So the answer is \\boxed{{{answer}}}."


TOO_MUCH = {
    "power tower": box("9^{9^{9^{9}}}"),
    "power tower, decimals": box("1.5^{10^{10}} + 0.5"),
    "power tower, negative": box("2^{-10^{10}}"),
    "power in a set": box(r"\{9^{9^{9}}, 42\}"),
    "power in a matrix": box(r"\begin{pmatrix} 9^{9^{9}} \end{pmatrix}"),
    "power in an equation": box("x = 9^{9^{9}}"),
    "remainder of a tower": box(r"9^{9^{9}} \mod 43"),
    "factorial": box("(10^8)!"),
    "factorial of factorials": box("((((9!)!)!)!)!"),
    "double factorials": box("9!!!!!!"),
    "binomial": box(r"\binom{10^9}{10^8}"),
    "product": box(r"\prod_{n=1}^{10^9} n"),
    "expansion": box("(x+y+z)^{3000}"),
    "expansion in an equation": box("t = (x+y+z)^{3000}"),
    "long expansion in an equation": box("t = (x+y)^{20000}"),
    "integral": box(r"\int_0^\infty \frac{\sin(x^3+x)}{x^5+7} dx"),
    "equation to solve": box(r"\sin(x) + x^x = 1"),
    "nested roots": box(r"\sqrt{" * 60 + "2" + "}" * 60),
    "continued fraction": box(r"\frac{1}{1+" * 45 + "1" + "}" * 45),
    "stairs of powers": box("x^{" * 100 + "x" + "}" * 100),
    "parentheses": box("(" * 200 + "1" + ")" * 200),
    "braces": box("{" * 200 + "1" + "}" * 200),
    "brackets that never close": box("[" * 400),
    "signs": box("-" * 450 + "1"),
    "one symbol after the other": box("a" * 450),
    "a long set": box(r"\{" + ",".join(map(str, range(100))) + r"\}"),
    "improper integral": box(r"\int_{-\infty}^{\infty} e^{-x^4} dx"),
    "infinite sum": box(r"\sum_{n=1}^{\infty} \frac{1}{n^{n}}"),
    "limit": box(r"\lim_{n\to\infty}(1+1/n)^{n^2}"),
    "root of a huge degree": box(r"\sqrt[100000]{2^{100000}+1}"),
    "exponentials": box(r"\exp(\exp(\exp(\exp(10))))"),
    "derivative": box(r"\frac{d}{dx} x^{x^x}"),
    "separators before a domain": box((r"k\pi" + r"\quad , " * 60 + r"k\in")[:499]),
    "quintic": box(r"\{x : x^5+x+1=0\}"),
    "a wide matrix": box(r"\begin{pmatrix}" + "&".join("1" * 40) + r"\end{pmatrix}"),
    "math mode that never ends": box("\\(" * 50_000),
    "signs of equality only": box("= " * 50_000),
    "100,000 characters": box("1+" * 50_000 + "1"),
    "100,000 digits": box("7" * 100_000),
    "100,000 braces": box("{" * 50_000 + "}" * 50_000),
    "100,000 backslashes": box("\\" * 100_000),
    "100,000 boxes": "\\boxed{" * 14_000 + "41" + "}" * 14_000,
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_much_to_evaluate(name, lateness):
    answer = extract_answer(TOO_MUCH[name])
    lateness.worst = 0.0
    verdict = grade(answer, "42", deadline=DEADLINE)
    assert not verdict.correct
    assert verdict.seconds <= DEADLINE + 0.5 + lateness.worst


def test_the_pool_works_after_all_of_them(capsys):
    size = PoolSettings()
    with capsys.disabled():
        print(f"\npeak memory of a grading worker under attack: {get_pool().peak_mib:.0f} MiB of {size.memory_mib}")
    assert 0 < get_pool().peak_mib <= size.memory_mib
    assert [grade(answer, "1 + x").status.value for answer in ("x + 1", "x + 2")] == ["correct", "wrong"]


NO_ANSWER = {
    "nothing": "",
    "a number without a box": "The answer is 42.",
    "a box that never closes": r"\boxed{42",
    "a box that never closes, many": r"\boxed{42 " * 1000,
    "an empty box": r"\boxed{}",
    "a blank box": r"\boxed{  }",
    "a box with an empty text": r"\boxed{\text{}}",
    "a row that is cut off": r"\boxed{42} or \boxed{43",
    "no brace, and more behind it": r"$\boxed 42 + x$",
    "no brace, and a power": r"$\boxed 42^2$",
    "the instruction": r"The answer goes in \boxed{...}, as in \boxed{\text{answer}}: 42",
    "another command": r"\boxedanswer{42}",
    "a box that is print": r"$\backslash boxed\{42\}$",
    "escaped braces": r"\boxed\{42\}",
    "look-alike command": "\\b\N{CYRILLIC SMALL LETTER O}xed{42}",
    "fullwidth braces": "\\boxed\N{FULLWIDTH LEFT CURLY BRACKET}42\N{FULLWIDTH RIGHT CURLY BRACKET}",
    "NUL in the command": "\\box\x00ed{42}",
    "thinking that never ends": r"<think>\boxed{42}",
    "a box in the thinking only": r"<think>\boxed{42}</think>I am done.",
    "two blocks": r"<think>a</think>b<think>\boxed{42}</think>",
}


@pytest.mark.parametrize("name", NO_ANSWER)
def test_no_answer_was_given(name):
    answer = extract_answer(NO_ANSWER[name], strip_thinking=True)
    assert grade(answer, "42").status is Status.no_answer


WRONG = {
    "right, then wrong": r"\boxed{42} no, \boxed{43}",
    "right and wrong in a row": r"$\boxed{42}$ or $\boxed{43}$",
    "wrong and right in a row": r"\boxed{43} \text{ and } \boxed{42}",
    "many in a row": ", ".join(rf"\boxed{{{guess}}}" for guess in range(100)),
    "joined": r"\boxed{41}, \boxed{42}",
    "right inside wrong": r"\boxed{43 \boxed{42}}",
    "wrong inside right": r"\boxed{42 \boxed{43}}",
    "two boxes in a box": r"\boxed{\boxed{41}\boxed{42}}",
    "list": box("41, 42, 43"),
    "list with semicolons": box("41; 42; 43"),
    "list with spaces": box("41 42 43"),
    "list of lines": box(r"41 \\ 42"),
    "or": box(r"41 \text{ or } 42"),
    "or, in the text": box(r"42 \text{ or 43}"),
    "or, the right one first": box(r"42 \text{ or } 43"),
    "or, spelled out": box(r"42 \text{ or forty-three}"),
    "unit with a number": box(r"42 \text{43}"),
    "unit with a number, exotic digits": box("42 \\text{ \N{ARABIC-INDIC DIGIT FOUR}\N{ARABIC-INDIC DIGIT THREE}}"),
    "texts around a candidate": box(r"42 \text{ or } 43 \text{ I guess}"),
    "bold continuation": box(r"4 \mathbf{2}"),
    "mbox": box(r"42 \mbox{, 43}"),
    "chain of equations": box("41 = 42"),
    "chain of equations, named": box("x = 41 = 42"),
    "arrow": box(r"41 \to 42"),
    "implication": box(r"41 \implies 42"),
    "congruence": box(r"41 \equiv 42"),
    "approximation": box(r"42 \approx 50"),
    "matrix of candidates": box(r"\begin{pmatrix} 41 & 42 \end{pmatrix}"),
    "cases": box(r"\begin{cases} 41 \\ 42 \end{cases}"),
    "set": box(r"\{41, 42\}"),
    "interval": box("[41, 42]"),
    "at least": box(r"x \ge 42"),
    "range": box("42-43"),
    "plus or minus": box(r"42 \pm 1"),
    "subscript": box("42_{43}"),
    "no base": box("42_000"),
    "not": box(r"\neg 42"),
    "crossed out": box(r"\cancel{42}"),
    "crossed out, then another": box(r"\cancel{42} 43"),
    "invisible": box(r"\phantom{42}"),
    "comment": box("43 % 42"),
    "percent": box(r"43\%"),
    "negative": box("-42"),
    "factorial sign": box("42!"),
    "reciprocal": box("1/42"),
    "letters like digits": box("4Z"),
    "letter l for 1": box("l0.5e1"),
    "fullwidth": box("\N{FULLWIDTH DIGIT FOUR}\N{FULLWIDTH DIGIT TWO}"),
    "arabic digits": box("\N{ARABIC-INDIC DIGIT FOUR}\N{ARABIC-INDIC DIGIT TWO}"),
    "bold digits": box("\N{MATHEMATICAL BOLD DIGIT FOUR}\N{MATHEMATICAL BOLD DIGIT TWO}"),
    "superscript": box("4\N{SUPERSCRIPT TWO}"),
    "zero width space": box("4\N{ZERO WIDTH SPACE}2"),
    "right-to-left override": box("\N{RIGHT-TO-LEFT OVERRIDE}24"),
    "combining stroke": box("4\N{COMBINING LONG STROKE OVERLAY}2"),
    "NUL": box("4\x002"),
    "control characters": box("\x1b[8m43\x1b[0m42\x08\x08\x7f"),
    "lone surrogate": box("42\ud800"),
    "replacement character": box("42\N{REPLACEMENT CHARACTER}"),
    "truncated UTF-8": box(b"42\xe2\x82".decode("utf-8", "surrogateescape")),
    "truncated UTF-8, replaced": box(b"42\xe2\x82".decode("utf-8", "replace")),
    "json": box('{"answer": 42}'),
    "python": box("__import__('os').system('true') or 42"),
    "python, evaluated by sympy": box("(lambda: 42)()"),
    "format": box("{0}42%s%n"),
    "unbalanced, closing": "\\boxed{41} + {42}} 42}",
    "breaking out of math-verify's box": r"\boxed{41\}} \boxed{\{42}",
    "sentence": box("I am sure that it is 42 and nothing else"),
    "refusal": box(r"\text{no solution}"),
    "question mark": box("42?"),
    "nan": box("nan"),
    "infinity": box(r"\infty"),
    "power of infinity": box(r"\infty^3"),
    "zero by zero": box("0/0"),
    "the problem back": box(r"\text{What is } 6 \cdot 7 \text{?}"),
    "everything": box(" ".join(map(str, range(100)))),
    "any number": box("x"),
    "true": box("True"),
    "empty set": box(r"\emptyset"),
    "two in math mode": box(r"\(41\) \text{ or } \(42\)"),
    "two displays": box(r"\[42\] \[43\]"),
    "signs of equality": box("= 41 = 42"),
    "a style, then two": box(r"\large 42 43"),
    "approximation of another": box(r"\approx 42.4"),
    "chain of fractions": box(r"\frac{1}{42} = \frac{42}{1}"),
    "closed form that is another": box(r"42\pi = 42"),
    "calculation that is wrong": box(r"6 \cdot 8 = 42"),
    "bold, then another": box(r"\boldsymbol{42} 43"),
    "bold with another": box(r"\boldsymbol{42, 43}"),
    "text with another": box(r"\text{42 or 43}"),
    "text with two": box(r"\text{42 43}"),
    "period": box(r"42.\overline{9}"),
    "raised, Unicode": box("42²"),
    "root, Unicode": box("√42"),
    "factorial, then a comma": box("42!,"),
    "the letter of an option": box("(C) 43"),
    "options with their texts": box(r"\textbf{(A)} 42 \textbf{(B)} 43"),
    "option with two texts": box(r"\textbf{(A)} 42, 43"),
    "dots": box("...42"),
    "dots between": box("4...2"),
    "a stop within": box("41. 42."),
    "only a sign": box("= ."),
    "magnitude": box("42 million"),
    "struck out": box(r"\sout{42}"),
    "not, in the text": box(r"\text{not }42"),
    "unfinished sum": box("42 +"),
    "either side of a relation": box("41 < 42"),
    "footnote": box(r"42\footnote{43}"),
    "hidden behind it": box(r"\rlap{43}42"),
    "a colour of two": box(r"\color{white}{43} 42"),
    "link": box(r"\href{43}{42}"),
    "length": box(r"\hspace{42pt}"),
    "stacked": box(r"\substack{42\\43}"),
    "modulus": box(r"42 \pmod{43}"),
    "words": box("forty-two"),
    "other notation": box("0x2A"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_earns_nothing(name):
    verdict = grade(extract_answer(WRONG[name]), "42")
    assert verdict.status in (Status.wrong, Status.unparsable), verdict


OPTIONS = [
    "(A) or (C)",
    "(A)(C)",
    "(C)(A)",
    r"(C) \text{ or } (A)",
    r"\textbf{(C)}\ \textbf{(A)}",
    r"\text{(C)} A",
    "C: A",
    "C. A",
    "C) and A",
    "(C) not",
]
OPTIONS += [
    "A, B, C, D",
    "A=C",
    "C=A",
    r"\text{C or A}",
    "C A",
    "C/A",
    "(A) C",
    "(B) 12",
    "(C",
    "C:12:A",
    "(C)^2",
    "ABC",
    "not C",
    "(C) (or (A))",
]


@pytest.mark.parametrize("answer", OPTIONS)
def test_the_letters_of_several_options_are_no_answer(answer):
    """One letter may be read from it (math-verify takes the last side of A=C), but never two different ones."""
    assert sum(grade(answer, gold).correct for gold in ("A", "B", "C", "D")) <= (answer in ("A=C", "C=A", "(B) 12"))


@pytest.mark.parametrize("answer", [42, b"42", 42.0, ["42"], float("nan")])
def test_an_answer_that_is_no_text_is_refused_and_not_graded(answer):
    with pytest.raises(ValueError, match="answer: must be a string, or None for no answer, got"):
        grade(answer, "42")


def test_direct_calls_with_broken_braces():
    """A user who extracts answers may pass anything."""
    for answer in ("42} + {43", "43} \\boxed{42", "}42{", "{42", "42}", "\\boxed{42", "43}\\fbox{42}{"):
        assert not grade(answer, "42").correct, answer


def test_a_reference_with_an_infinite_value_pays_for_nothing():
    for gold in ("1/0", "0/0", r"\text{nan}"):
        assert not grade("42", gold).correct
        assert not grade(r"\infty", gold).correct


RIGHT = {
    "after a wrong one": r"\boxed{41}, no: \boxed{42}",
    "without braces": r"so $x = \boxed 42$.",
    "before an empty box": r"\boxed{42} \boxed{}",
    "before the instruction, copied": r"\boxed{42}. I give it in the form \boxed{...}",
    "twice in a row": r"\boxed{42}, that is \boxed{42} or $\boxed{\frac{84}{2}}$",
    "again and again until the limit": r"$\boxed{42}$ " * 20 + r"$\boxed{4",
    "after an unfinished box": r"\boxed{41 and \boxed{42}",
    "before an unfinished box": r"\boxed{42} and then \boxed{43",
    "box in a box": r"\boxed{\boxed{42}}",
    "equation": box("x = 42"),
    "calculation": box(r"6 \cdot 7 = 42"),
    "unit": box(r"42 \text{ cm}^2"),
    "bold": box(r"\mathbf{42}"),
    "dollars": box(r"\$42.00"),
    "display": box(r"\[ 42 \]"),
    "math mode": box(r"\( 42 \)."),
    "sign of equality": box("= 42"),
    "named, with a full stop": box("N = 42."),
    "style": box(r"\Large\bf 42"),
    "conclusion": box(r"\therefore 42"),
    "text of an option": box(r"\text{(C) } 42"),
    "bold, printed": box(r"\boldsymbol{42}"),
    "coloured": box(r"\color{red}{42}"),
    "text with a unit": box(r"\text{42 apples}"),
    "degrees, Unicode": box("42°"),
    "comma behind": box("42,"),
    "probability": box("P(X=2) = 42"),
    "limit": box(r"\lim_{x \to 2} f(x) = 42"),
    "rounded": box(r"\frac{126}{3} = 42.0"),
    "control character after the box": box("42") + "\x00\x1b\ud800",
    "among 100,000 characters": "x" * 50_000 + box("42") + "{" * 50_000,
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_is_not_punished_for_its_surroundings(name):
    assert grade(extract_answer(RIGHT[name]), "42").correct


def test_a_batch_of_attacks_ends_in_time_and_keeps_the_honest_answers(lateness):
    """Of 16 attacks among 64 honest symbolic answers, each costs at most its deadline, and no honest answer suffers."""
    attacks = [answer for text in TOO_MUCH.values() if (answer := extract_answer(text)) and len(answer) < 500][:16]
    answers = [answer for attack in attacks for answer in (attack, "x + 1", "x + 2", "2 + x", "1 + x")]
    golds = ["42", "1 + x", "1 + x", "x + 2", "x + 1"] * 16
    lateness.worst = 0.0
    started = time.perf_counter()
    verdicts = grade_batch(answers, golds, deadline=DEADLINE)
    assert [verdict.correct for verdict in verdicts] == [False, True, False, True, True] * 16
    assert max(verdict.seconds for verdict in verdicts) <= DEADLINE + 0.5 + lateness.worst
    assert time.perf_counter() - started <= 16 * (DEADLINE + 0.5 + lateness.worst)
