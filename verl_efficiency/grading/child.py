"""The process in which math-verify runs: one grading at a time, in the main thread, under a deadline.

Started by :mod:`verl_efficiency.grading.pool`; reads and writes JSON over one socket and ends when the socket does. Nothing
of the caller is imported here.
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

from verl_efficiency.grading.magnitude import too_large
from verl_efficiency.grading.numeric import contradicts_itself, same
from verl_efficiency.grading.regions import same_region
from verl_efficiency.grading.symbols import has_degrees, has_imaginary_unit, read

# After its deadline plus this many seconds, a grading that Python cannot interrupt (one long call into C) ends the process,
# even when the parent that would have killed it is gone.
SELF_KILL_AFTER = 0.4
LOOK_FOR_PARENT_EVERY = 1.0


_NAMED_I = re.compile(r"^\s*I\s*=(?!=)")  # I = π/4: the name of an integral or a current, not the imaginary unit


class OutOfTime(BaseException):
    """Derives from BaseException so that no ``except Exception`` inside sympy swallows it."""


def _out_of_time(signum: int, frame: Any) -> None:
    raise OutOfTime


_read_gold = lru_cache(maxsize=256)(read)  # one reference, many answers


def _equations(read: list[Any]) -> list[Any]:
    from sympy import Basic, Equality

    return [equation for item in read if isinstance(item, Basic) for equation in item.atoms(Equality)]


def judge(answer: str, gold: str) -> str:
    """Status of one grading, without a time limit: by sets and conditions, by value, and else by math-verify."""
    from math_verify import verify

    answer, gold = (_NAMED_I.sub("", text) for text in (answer, gold))
    imaginary = has_imaginary_unit(answer, gold)
    golds, answers = _read_gold(gold, imaginary), read(answer, imaginary)
    expressions = [item for item in golds + answers if not isinstance(item, str)]
    if any(too_large(expression) for expression in expressions):
        return "unparsable"
    region = same_region(gold, answer)
    if region is not None:
        return "correct" if region else "wrong"
    # math-verify takes the last side of √3 = √2. Where the reference is an equation, it compares both sides.
    if not _equations(golds) and contradicts_itself(_equations(answers)):
        return "wrong"
    if len(expressions) == 2:
        equal = same(*expressions)
        if equal is not True and has_degrees(gold) != has_degrees(answer):  # π/6 is 30°
            equal = _same_angle(answer, gold) or equal
        if equal is not None:
            return "correct" if equal else "wrong"
    # Reversed: parse() appends the text to the expression, and equal texts need no mathematics.
    if verify(golds[::-1], answers[::-1], timeout_seconds=None):
        return "correct"
    return "wrong" if len(expressions) >= 2 else "unparsable"


def _same_angle(answer: str, gold: str) -> bool | None:
    """Whether an angle in degrees is one in radians, where one side has the sign of degrees and the other has π."""
    if re.search(
        r"\\(?:text|mathrm|mbox)", re.sub(r"\\text\s*\{\s*(?:radians?|rad|degrees?|deg)\.?\s*\}", "", answer + gold)
    ):
        return None  # words that math-verify drops, as in 60° not 120°
    golds, answers = (read(text, radians=True) for text in (gold, answer))
    if len(golds) < 2 or len(answers) < 2 or "\\pi" not in (answer if has_degrees(gold) else gold):
        return None
    return same(golds[0], answers[0])


def judge_within(deadline: float, answer: str, gold: str, nowhere: IO[str]) -> str:
    """Status of one grading that ends after ``deadline`` seconds."""
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
            if os.getppid() != parent:  # a process forked from the parent may hold the socket open
                return
        request = json.loads(connection.recv_bytes())
        status = judge_within(request["deadline"], request["answer"], request["gold"], nowhere)
        connection.send_bytes(json.dumps({"status": status, "peak_mib": peak_mib()}).encode())


def peak_mib() -> float:
    """The most memory that this process has held, in MiB."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with open("/proc/self/status") as lines:  # ru_maxrss starts with the size of the parent on Linux
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10


def limit_memory(size: int) -> None:
    """At most ``size`` bytes of address space, or what the system allows if that is less."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (size if most == resource.RLIM_INFINITY else min(size, most), most))


def main(socket: int, parent: int, memory_mib: int) -> None:
    """Load math-verify, try it, say so, and serve until the other end closes."""
    connection = Connection(socket)
    try:
        problem = prepare(memory_mib)
        connection.send_bytes(json.dumps({"problem": problem}).encode())
        if problem is None:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)  # the parser prints every character that it does not know
                serve(connection, parent, nowhere)
    except (EOFError, ConnectionError):
        return


def prepare(memory_mib: int) -> str | None:
    """What keeps math-verify from working here, or ``None``."""
    try:
        limit_memory(memory_mib * 2**20)
        logging.disable()  # math-verify warns that its own alarms are off
        signal.signal(signal.SIGALRM, _out_of_time)
        tried = judge("x + 1", "1 + x")
    except Exception as error:  # noqa: BLE001 - sent to the parent, which raises it
        return f"{type(error).__name__}: {error}"
    return None if tried == "correct" else f"x + 1 = 1 + x came out as {tried}"
