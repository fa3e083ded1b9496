"""The process in which math-verify runs: one grading at a time, in the main thread, under a deadline.

:mod:`verl_efficiency.grading.pool` starts it. It reads and writes JSON over one socket and ends when the socket closes. It
does not import the caller's modules. :func:`judge` lists its decisions in order.
"""

import faulthandler
import json
import logging
import os
import re
import resource
import signal
import sys
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import IO, Any

from verl_efficiency.grading.clean import misread
from verl_efficiency.grading.evaluate import Undefined, Unknown, infinite, reliable_value, too_large
from verl_efficiency.grading.parse import has_degrees, has_imaginary_unit, read
from verl_efficiency.grading.quick import every, same_elements
from verl_efficiency.grading.sets import same_region
from verl_efficiency.grading.systems import same_pieces
from verl_efficiency.grading.values import MAX_ELEMENTS, contradicts_itself, same

# Python cannot interrupt one long call into C. Such a grading ends its process this many seconds after the deadline. Usually
# the parent kills the process first; this limit also holds after the parent is gone.
SELF_KILL_AFTER = 0.4
LOOK_FOR_PARENT_EVERY = 1.0  # seconds

_BRACES = re.compile(r"\s*(?:\\left\s*)?\\(?:\{|lbrace)")  # the \{ of a set
_NAMED_I = re.compile(r"^\s*I\s*=(?!=)")  # I = π/4: the name of an integral or a current, not the imaginary unit
_ABOUT = re.compile(r"\\approx(?![a-zA-Z])")
_DECIMAL = re.compile(r"(-?[0-9]+(?:\.([0-9]+))?)\s*(\\?%)?")
FAR = 0.05  # the sides of √2 ≈ 1.5 disagree


class OutOfTime(BaseException):
    """The deadline has passed. It is a BaseException so that no ``except Exception`` inside sympy swallows it."""


def _out_of_time(signum: int, frame: Any) -> None:
    raise OutOfTime


_read_gold = lru_cache(maxsize=256)(read)  # one reference, many answers


def judge(answer: str, gold: str) -> str:
    """The status of one grading, without a time limit. See :mod:`verl_efficiency.grading.grade` for what comes before.

    1. Of ``exact \\approx rounded``, either side may be the reference. Two sides that disagree are ``wrong``.
    2. A number too large to evaluate is ``unparsable``.
    3. Sets of real numbers are compared as sets.
    4. An answer that contradicts itself is ``wrong``. An equation as reference skips this step: the later steps compare both
       of its sides.
    5. Two expressions are compared by value. A point is not a set, nor is an interval. An angle in degrees may equal one in
       radians. A bare list that holds a value twice must be met with it.
    6. math-verify decides the rest.
    """
    from math_verify import verify

    answer, gold = (_NAMED_I.sub("", text) for text in (answer, gold))
    rounded = _same_rounded(answer, gold)
    if rounded is not None:
        return "correct" if rounded else "wrong"
    in_pieces = same_pieces(gold, answer, lambda one, other: not misread(other) and judge(other, one) == "correct")
    if in_pieces is not None:
        return "correct" if in_pieces else "wrong"
    imaginary = has_imaginary_unit(answer, gold)
    golds, answers = _read_gold(gold, imaginary), read(answer, imaginary)
    expressions = [item for item in golds + answers if not isinstance(item, str)]
    if any(too_large(expression) for expression in expressions):
        return "unparsable"
    region = same_region(gold, answer)
    if region is not None:
        return "correct" if region else "wrong"
    if not _equations(golds) and contradicts_itself(_equations(answers)):  # math-verify takes the last side of √3 = √2
        return "wrong"
    if len(expressions) == 2:
        equal = _same_with_repeats(gold, *expressions)
        equal = same(*expressions) if equal is None else equal
        for text, listed, point in ((gold, *expressions), (answer, *expressions[::-1])):
            equal = _same_point(text, listed, point) if equal is None else equal
        if equal is not True and has_degrees(gold) != has_degrees(answer):  # π/6 is 30°
            equal = _same_angle(answer, gold) or equal
        if equal is not None:
            return "correct" if equal else "wrong"
    # Reversed, the lists have the text first: math-verify accepts equal texts before it compares expressions.
    if verify(golds[::-1], answers[::-1], timeout_seconds=None):
        return "correct"
    return "wrong" if len(expressions) >= 2 else "unparsable"


def _same_rounded(answer: str, gold: str) -> bool | None:
    r"""Whether one side of ``\sqrt{6} \approx 2.45`` is the reference.

    ``None`` unless the left side is an exact number, and the right side is this number rounded, or is far from it.
    """
    sides = [side.strip() for side in _ABOUT.split(answer)]
    if len(sides) != 2 or _ABOUT.search(gold) or _DECIMAL.fullmatch(sides[0]):
        return None
    value, rounded = _value(sides[0]), _DECIMAL.fullmatch(sides[1])
    percent = 100 if rounded and rounded[3] else 1
    shown = float(rounded[1]) / percent if rounded else _value(sides[1])
    if value is None or shown is None:
        return None
    if abs(value - shown) > FAR * max(abs(value), abs(shown)):
        return False
    if not rounded or not rounded[2] or abs(value - shown) > 0.5001 * 0.1 ** len(rounded[2]) / percent:
        return None
    return any(judge(side, gold) == "correct" for side in sides)


def _value(text: str) -> float | None:
    """The real number that a text, or its last side, is."""
    from sympy import Expr

    found = read(text.rpartition("=")[2])
    number = found[0] if found and isinstance(found[0], Expr) else None
    if number is None or number.free_symbols or too_large(number):
        return None
    try:
        value = reliable_value(number, {}, 30, real=True)
    except (Undefined, Unknown):
        return None
    return None if infinite(value) else float(value)


def _equations(expressions: list[Any]) -> list[Any]:
    from sympy import Basic, Equality

    return [equation for item in expressions if isinstance(item, Basic) for equation in item.atoms(Equality)]


def _same_with_repeats(text: str, gold: Any, answer: Any) -> bool | None:
    """Whether two lists are equal where the bare list ``text`` holds a value twice; ``None`` where it does not."""
    from sympy import FiniteSet

    golds, answers = (getattr(listed, "_unsorted_args", ()) for listed in (gold, answer))
    if not isinstance(gold, FiniteSet) or not isinstance(answer, FiniteSet) or _BRACES.match(text):
        return None
    if len(golds) == len(gold) or len(golds) > MAX_ELEMENTS:
        return None
    return len(golds) == len(answers) and same_elements(golds, answers, same)


def _same_point(text: str, listed: Any, point: Any) -> bool | None:
    """Whether the list in ``text`` is the point, or the open interval; ``None`` where there is no list or no point.

    A set in braces is never a point. A bare list is a point if the order is the same: ``1, 2`` is ``(1, 2)``, not ``(2, 1)``.
    """
    from sympy import Expr, FiniteSet, Interval, Tuple

    if not isinstance(listed, FiniteSet) or not isinstance(point, Tuple | Interval) or "\\pm" in text:
        return None
    values, parts = getattr(listed, "_unsorted_args", ()), point.args
    if isinstance(point, Interval):
        parts = parts[:2] if point.is_open else ()
    if len(values) != len(parts) or not all(isinstance(value, Expr) for value in (*values, *parts)):
        return None
    if _BRACES.match(text):
        return False
    return every([same(value, part, alone=False) for value, part in zip(values, parts, strict=True)])


def _same_angle(answer: str, gold: str) -> bool | None:
    """Whether an angle in degrees equals one in radians, where one side has the degree sign and the other has π."""
    without_units = re.sub(r"\\text\s*\{\s*(?:radians?|rad|degrees?|deg)\.?\s*\}", "", answer + gold)
    if re.search(r"\\(?:text|mathrm|mbox)", without_units):
        return None  # words that math-verify drops, as in "60° not 120°"
    golds, answers = (read(text, radians=True) for text in (gold, answer))
    if len(golds) < 2 or len(answers) < 2 or "\\pi" not in (answer if has_degrees(gold) else gold):
        return None
    return same(golds[0], answers[0])


def judge_within(deadline: float, answer: str, gold: str, nowhere: IO[str]) -> str:
    """:func:`judge` with a time limit of ``deadline`` seconds. ``nowhere`` receives the traceback of a process that ends."""
    try:
        signal.setitimer(signal.ITIMER_REAL, deadline)
        faulthandler.dump_traceback_later(deadline + SELF_KILL_AFTER, exit=True, file=nowhere)
        try:
            return judge(answer, gold)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
    except OutOfTime:
        return "timed_out"
    except (MemoryError, RecursionError):
        return "unparsable"


def serve(connection: Connection, parent: int, nowhere: IO[str]) -> None:
    """Answer requests until the parent is gone."""
    while True:
        while not connection.poll(LOOK_FOR_PARENT_EVERY):
            if os.getppid() != parent:  # a fork of the parent may hold the socket open
                return
        request = json.loads(connection.recv_bytes())
        problem = None
        try:
            status = judge_within(request["deadline"], request["answer"], request["gold"], nowhere)
        except Exception as error:  # noqa: BLE001 - one answer must not end the process; the parent logs it
            status, problem = "unparsable", f"{type(error).__name__}: {error}"
        connection.send_bytes(json.dumps({"status": status, "problem": problem, "peak_mib": peak_mib()}).encode())


def peak_mib() -> float:
    """The peak memory of this process in MiB."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with open("/proc/self/status") as lines:  # on Linux, ru_maxrss includes the parent's size at the start
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10


def limit_memory(size: int) -> None:
    """Limit the address space to ``size`` bytes, or to the system's own limit if that is lower."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (size if most == resource.RLIM_INFINITY else min(size, most), most))


def main(socket: int, parent: int, memory_mib: int) -> None:
    """Load math-verify, try it, report the result, and serve until the other end closes."""
    connection = Connection(socket)
    try:
        problem = prepare(memory_mib)
        connection.send_bytes(json.dumps({"problem": problem}).encode())
        if problem is None:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)  # the parser prints each unknown character
                serve(connection, parent, nowhere)
    except (EOFError, ConnectionError):
        return


def prepare(memory_mib: int) -> str | None:
    """The reason why math-verify does not work here, or ``None``."""
    try:
        limit_memory(memory_mib * 2**20)
        logging.disable()  # math-verify warns that its own alarms are off
        signal.signal(signal.SIGALRM, _out_of_time)
        tried = judge("x + 1", "1 + x")
    except Exception as error:  # noqa: BLE001 - sent to the parent, which raises it
        return f"{type(error).__name__}: {error}"
    return None if tried == "correct" else f"x + 1 = 1 + x came out as {tried}"
