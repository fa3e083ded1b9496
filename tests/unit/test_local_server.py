"""``--engine vllm`` with a program of that name that speaks the API: it is gone however the command ends."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("openai")

PROBLEMS = 200
VLLM = """#!{python}
import itertools, json, os, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

words = sys.argv[1:]
worker = subprocess.Popen(["sleep", "600"])
with open({record!r}, "w") as file:
    json.dump([os.getpid(), worker.pid], file)
left = [int(words[words.index("--die-after") + 1]) if "--die-after" in words else 10 ** 9]

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send({{"object": "list", "data": [{{"id": words[words.index("--served-model-name") + 1], "object": "model"}}]}})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        left[0] -= 1
        if left[0] < 0:
            print("(Worker pid=7) ERROR 11-27 20:57:42 [executor.py:63] RuntimeError: no kernel", flush=True)
            print("  warnings.warn(", flush=True)
            os._exit(3)
        time.sleep(0.05)
        usage = {{"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}}
        reply = {{"id": "1", "object": "chat.completion", "created": 0, "model": "m", "usage": usage}}
        if not request.get("stream"):
            message = {{"role": "assistant", "content": "1"}}
            self.send(reply | {{"choices": [{{"index": 0, "finish_reason": "stop", "message": message}}]}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number in itertools.count():  # a response without an end
            if number == 50:
                with open({record!r} + ".streams", "a") as file:
                    file.write("x")
            piece = {{"index": 0, "delta": {{"content": "1"}}, "finish_reason": None}}
            chunk = reply | {{"object": "chat.completion.chunk", "choices": [piece]}}
            self.wfile.write(f"data: {{json.dumps(chunk)}}\\n\\n".encode())
            time.sleep(0.02)

    def send(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

ThreadingHTTPServer(("127.0.0.1", int(words[words.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def folder(tmp_path):
    """A model, problems, and the program in ``bin``, which writes its process and its worker's to ``started.json``."""
    program, model = tmp_path / "bin" / "vllm", tmp_path / "model"
    program.parent.mkdir()
    program.write_text(VLLM.format(python=sys.executable, record=str(tmp_path / "started.json")))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").touch()
    rows = [
        {"prompt": [{"role": "user", "content": str(number)}], "reward_model": {"ground_truth": "1"}}
        for number in range(PROBLEMS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    return tmp_path


def start(folder, *arguments):
    out = folder / "out.json"
    words = [
        *arguments,
        folder / "model",
        folder / "data.parquet",
        "--engine",
        "vllm",
        "--concurrency",
        4,
        "--out",
        out,
    ]

    def usual_signals():  # the shell that started the tests may ignore some
        for kind in (signal.SIGINT, signal.SIGHUP):
            signal.signal(kind, signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "-m", "verl_efficiency.cli", "evaluate", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        preexec_fn=usual_signals,
    )


def await_(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def runs(process):
    """Whether it does; a zombie does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{process}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"
    return False


def stored(folder):
    store = folder / "out.responses.jsonl"
    return [json.loads(line) for line in store.read_text().splitlines()[1:]] if store.exists() else []


ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("kind", ENDS, ids=[kind.name for kind in ENDS])
def test_vllm_and_its_workers_are_gone_after_a_signal(folder, kind):
    command = start(folder)
    await_(lambda: len(stored(folder)) >= 8)
    processes = json.loads((folder / "started.json").read_text())
    assert all(map(runs, processes))
    command.send_signal(kind)
    _, error = command.communicate(timeout=60)
    if kind == signal.SIGKILL:
        await_(lambda: not any(map(runs, processes)))
    assert not any(map(runs, processes))  # before the command ends
    assert command.returncode == (130 if kind == signal.SIGINT else -kind)
    assert 8 <= len(stored(folder)) < PROBLEMS
    if kind != signal.SIGKILL:
        assert b"the same command requests the others" in error


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_vllm_is_gone_after_a_signal_while_it_starts(folder):
    command = start(folder)
    await_((folder / "started.json").exists)
    await_(lambda: (folder / "started.json").read_text())
    command.terminate()
    command.communicate(timeout=60)
    assert not any(map(runs, json.loads((folder / "started.json").read_text())))


def test_what_streams_have_cost_is_stored_after_a_signal(folder):
    command = start(folder, "live", "--strategies", "plain")
    streams = folder / "started.json.streams"
    await_(lambda: streams.exists() and streams.stat().st_size == 4)
    command.terminate()
    command.communicate(timeout=60)
    streams = stored(folder)
    assert [(one["ended"], one["tokens"]) for one in streams] == [("failed", 7)] * 4


def test_vllm_that_dies_in_the_middle_is_one_line_with_its_reason(folder):
    command = start(folder, "--engine-args", "--die-after 20", "--retries", "0")
    _, error = command.communicate(timeout=60)
    said = " ".join(error.decode().split())
    assert command.returncode == 2
    assert "error: --engine: vllm ended with exit code 3: RuntimeError: no kernel (see" in said
    assert "run the same command again to request the missing ones only" in said
    assert len(stored(folder)) >= 16
