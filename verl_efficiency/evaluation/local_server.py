"""Starts ``vllm serve`` for one command, and stops it, however the command ends."""

import contextlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from verl_efficiency.evaluation import keeper
from verl_efficiency.evaluation.checkpoint import resolve_model
from verl_efficiency.settings import SettingsError

START_SECONDS = 1800  # a large model is loaded, and its graphs are captured
POLL_SECONDS = 0.2

# A line of vLLM's output that names an error; without a logger's words before it, or with those of its level ERROR
ERROR_LINE = re.compile(
    r"^(?:\(\S+ pid=\d+\) )?(?:ERROR \S+ \S+ \[\S+\] )?((?:\w+\.)*\w*(?:Error|Exception): \S.*)$", re.MULTILINE
)


@contextlib.contextmanager
def vllm_server(model: str, arguments: str, log: Path) -> Iterator[str]:
    """The address of a server that serves ``model`` under this name, until the block ends.

    A process between, :mod:`~verl_efficiency.evaluation.keeper`, stops the server also if this one is killed.

    Args:
        model: a model folder, a hub name, a verl checkpoint or the folder of a run.
        arguments: further arguments of ``vllm serve``, as in a shell.
        log: the file for its output.

    Raises:
        SettingsError: vLLM is not installed, or its server ends or does not answer in time. The message has the first error in
            its output, or else the last line.
    """
    program = shutil.which("vllm")
    if program is None:
        raise SettingsError("--engine: vllm is missing; pip install vllm, or give the --server of another machine")
    port = _free_port()
    command = [program, "serve", resolve_model(model), "--served-model-name", model]
    command += ["--host", "127.0.0.1", "--port", str(port), *shlex.split(arguments)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-I", keeper.__file__, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this process alone
        )
    try:
        print(f"vllm: starting, its output is in {log}")
        _wait(server, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}/v1"
    except SettingsError as error:
        url = f"http://127.0.0.1:{port}"
        if str(error).startswith("--engine") or _answers(url) or not _ends(server):
            raise
        raise SettingsError(f"--engine: {_end(server, log)}. {error}") from None
    finally:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()


@contextlib.contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """SIGTERM and SIGHUP (a terminal that closes) end this block as Ctrl-C does, and then end the process.

    Without it they end the process at once, and what requests in flight have cost is not stored.
    """
    received: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        received.append(number)
        ctrl_c = signal.getsignal(signal.SIGINT)  # asyncio has its own, which cancels the requests
        if not callable(ctrl_c):
            raise KeyboardInterrupt
        ctrl_c(number, frame)

    kinds = [signal.SIGTERM, signal.SIGHUP] if threading.current_thread() is threading.main_thread() else []
    kinds = [kind for kind in kinds if signal.getsignal(kind) == signal.SIG_DFL]  # nohup ignores the second
    try:
        for kind in kinds:
            signal.signal(kind, end)
        yield
    finally:
        for kind in kinds:
            signal.signal(kind, signal.SIG_DFL)
        if received:
            with contextlib.suppress(OSError):  # the terminal may be gone
                sys.stdout.flush()
            signal.raise_signal(received[0])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return when the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SettingsError(f"--engine: {_end(server, log)}")
        if _answers(url):
            return
        time.sleep(POLL_SECONDS)
    raise SettingsError(f"--engine: vllm did not answer within {START_SECONDS} s (see {log})")


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/v1/models", timeout=5).close()
    except urllib.error.HTTPError:  # such as 401 with an --api-key
        return True
    except (urllib.error.URLError, OSError):
        return False
    return True


def _ends(server: subprocess.Popen[bytes]) -> bool:
    """Whether the server ends soon. One that no longer answers may still be about to."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(keeper.STOP_SECONDS)
    return server.poll() is not None


def _end(server: subprocess.Popen[bytes], log: Path) -> str:
    """How the server ended, and why."""
    code = server.returncode
    how = f"was killed by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
    if code < 0:
        how = f"may still run, because the process that stops it was killed by signal {-code}"
    return f"vllm {how}: {reason(log.read_text(errors='replace'))[:300]} (see {log})"


def reason(output: str) -> str:
    r"""The first error in vLLM's output, because others follow from it; without one the last line.

    >>> reason("(Worker pid=7) ERROR 11-27 20:57:42 [executor.py:63] RuntimeError: no kernel\n  warnings.warn(")
    'RuntimeError: no kernel'
    >>> reason("WARNING 11-27 20:57:42 [utils.py:25] OSError: is possible\nvllm: error: unknown argument")
    'vllm: error: unknown argument'
    """
    found = ERROR_LINE.search(output)
    return found[1] if found else (output.strip().splitlines() or ["no output"])[-1]
