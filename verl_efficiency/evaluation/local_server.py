"""Starts ``vllm serve`` for one command, and stops it."""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from verl_efficiency.evaluation.checkpoint import resolve_model
from verl_efficiency.settings import SettingsError

START_SECONDS = 1800  # a large model is loaded, and its graphs are captured
STOP_SECONDS = 20
POLL_SECONDS = 0.2


@contextlib.contextmanager
def vllm_server(model: str, arguments: str, log: Path) -> Iterator[str]:
    """The address of a server that serves ``model`` under this name, until the block ends.

    Args:
        model: a model folder, a hub name, a verl checkpoint or the folder of a run.
        arguments: further arguments of ``vllm serve``, as in a shell.
        log: the file for its output.

    Raises:
        SettingsError: vLLM is not installed, or its server ends or does not answer in time; the message has its last line.
    """
    program = shutil.which("vllm")
    if program is None:
        raise SettingsError("--engine: vllm is missing; pip install vllm, or give the --server of another machine")
    port = _free_port()
    command = [program, "serve", resolve_model(model), "--served-model-name", model]
    command += ["--host", "127.0.0.1", "--port", str(port), *shlex.split(arguments)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        print(f"vllm: starting, its output is in {log}")
        _wait(server, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        _stop(server)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return when the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            last = (log.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]
            raise SettingsError(f"--engine: vllm ended with exit code {server.returncode}: {last[:300]} (see {log})")
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{url}/v1/models", timeout=5).close()
            return
        time.sleep(POLL_SECONDS)
    raise SettingsError(f"--engine: vllm did not answer within {START_SECONDS} s (see {log})")


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and its workers."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS)
    server.wait()
