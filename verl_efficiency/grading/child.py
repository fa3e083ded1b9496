"""The process in which math-verify runs: one grading at a time, in the main thread, under a deadline.

Started by :mod:`verl_efficiency.grading.pool`; talks length-prefixed JSON over one socket and ends when the socket does.
"""

import faulthandler
import json
import logging
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

# After its deadline plus this many seconds a grading that Python cannot interrupt (one huge integer power) ends the process.
SELF_KILL_AFTER = 0.4
LOOK_FOR_PARENT_EVERY = 1.0


class OutOfTime(BaseException):
    """Derives from BaseException so that no ``except Exception`` inside sympy swallows it."""


def _out_of_time(signum: int, frame: Any) -> None:
    raise OutOfTime


def judge(answer: str, gold: str) -> str:
    """Status of one grading by math-verify, without a time limit."""
    from math_verify import parse, verify
    from math_verify.parser import LatexExtractionConfig

    # Box first and nothing else: the other patterns would pick some number out of an answer that is not mathematics.
    config = [LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)]
    golds, answers = (
        parse(f"\\boxed{{{text}}}", config, extraction_mode="first_match", parsing_timeout=None)
        for text in (gold, answer)
    )
    # Reversed: the strings that parse() appends are compared first, since that is cheap.
    if verify(golds[::-1], answers[::-1], timeout_seconds=None):
        return "correct"
    both_read = all(any(not isinstance(item, str) for item in side) for side in (golds, answers))
    return "wrong" if both_read else "unparsable"


def judge_within(deadline: float, answer: str, gold: str) -> str:
    """Status of one grading that ends after ``deadline`` seconds."""
    try:
        signal.setitimer(signal.ITIMER_REAL, deadline)
        faulthandler.dump_traceback_later(deadline + SELF_KILL_AFTER, exit=True, file=sys.stderr)
        try:
            return judge(answer, gold)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
    except OutOfTime:
        return "timed_out"
    except (MemoryError, RecursionError):
        return "unparsable"


def serve(connection: Connection, parent: int) -> None:
    """Answer requests until the parent is gone."""
    while True:
        while not connection.poll(LOOK_FOR_PARENT_EVERY):
            if os.getppid() != parent:
                return
        request = json.loads(connection.recv_bytes())
        status = judge_within(request["deadline"], request["answer"], request["gold"])
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        connection.send_bytes(json.dumps({"status": status, "peak_mib": peak_mib}).encode())


def main(socket: int, parent: int, memory_mib: int) -> None:
    """Load math-verify, say so, and serve."""
    connection = Connection(socket)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory_mib * 2**20, memory_mib * 2**20))
        signal.signal(signal.SIGALRM, _out_of_time)
        logging.disable()
        judge("x", "y")
    except Exception as error:  # noqa: BLE001 - reported to the parent, which raises it there
        connection.send_bytes(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        return
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # the parser prints every odd character that it meets
    connection.send_bytes(json.dumps({"ready": True}).encode())
    try:
        serve(connection, parent)
    except (EOFError, ConnectionError):
        return
