"""``evaluate`` against a real server, ``transformers serve`` with the testbed's model: killed, resumed, cancelled."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from verl_efficiency.cli import app
from verl_efficiency.testbed.prepare import prepare
from verl_efficiency.testbed.tasks import task_named

pytest.importorskip("openai")
psutil = pytest.importorskip("psutil")
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PROBLEMS, CONCURRENCY, TOKENS = 12, 2, 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The testbed's model and problems, and a model that never ends a response."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("server")
    prepare(task_named("checks"), folder, 0, {"test": PROBLEMS})
    endless = AutoModelForCausalLM.from_pretrained(folder / "model")
    endless.config.eos_token_id = endless.generation_config.eos_token_id = None
    endless.save_pretrained(folder / "endless")
    AutoTokenizer.from_pretrained(folder / "model").save_pretrained(folder / "endless")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    """(address, process, log) of the server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "server.log"
    command = [str(Path(sys.executable).parent / "transformers"), "serve", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as out:
        environment = os.environ | {"HF_HOME": str(folder / "hub"), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        until = time.monotonic() + 120
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", process, log
    finally:
        process.kill()
        process.wait()


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


def requests_at(log):
    """How many answers the server has begun, by its own access log."""
    return log.read_text().count("POST /v1/chat/completions")


def kill_after(process, store, responses):
    """Kill a command as soon as its store has so many responses."""
    until = time.monotonic() + 120
    while not store.exists() or store.read_text().count("\n") < 1 + responses:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    process.kill()
    process.wait()


def words(folder, url, out, *arguments, what=()):
    model = folder / "endless" if "live" in what else folder / "model"
    said = [*what, model, folder / "test.parquet", "--server", url, "--concurrency", CONCURRENCY, "--out", folder / out]
    return ["evaluate", *map(str, (*said, *arguments))]


def run(*arguments, **options):
    outcome = CliRunner().invoke(app, words(*arguments, **options))
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)


def table(folder, out):
    result = json.loads((folder / out).read_text())
    return result["summary"], result["per_prompt"]


def test_killed_and_resumed_gives_the_same_table_and_asks_nothing_twice(folder, server):
    url, _, log = server
    greedy = ("--temperature", 0, "--max-new-tokens", 220)
    run(folder, url, "whole.json", *greedy)
    assert requests_at(log) == PROBLEMS

    store = folder / "parts.responses.jsonl"
    killed = subprocess.Popen([sys.executable, "-m", "verl_efficiency.cli", *words(folder, url, "parts.json", *greedy)])
    kill_after(killed, store, PROBLEMS // 3)
    assert PROBLEMS // 3 <= store.read_text().count("\n") - 1 < PROBLEMS
    run(folder, url, "parts.json", *greedy)
    assert table(folder, "parts.json") == table(folder, "whole.json")
    # Those that the killed run was waiting for are asked again, because their answers were lost.
    assert 2 * PROBLEMS <= requests_at(log) <= 2 * PROBLEMS + CONCURRENCY


def test_a_plan_that_was_killed_goes_on_and_is_the_same(folder, server):
    """``--problems auto``: one size after the other, each prompt once."""
    url, _, log = server
    choice = ("--problems", "auto", "--by", "characters", "--bands", 1, "--max-loss", 0.9)
    greedy = ("--temperature", 0, "--max-new-tokens", 8, "--limit", 8, *choice)
    before = requests_at(log)
    run(folder, url, "whole_plan.json", *greedy, what=("task-scaling",))
    asked = requests_at(log) - before

    store = folder / "plan.responses.jsonl"
    command = words(folder, url, "plan.json", *greedy, what=("task-scaling",))
    killed = subprocess.Popen([sys.executable, "-m", "verl_efficiency.cli", *command])
    kill_after(killed, store, asked // 3)
    assert asked // 3 <= store.read_text().count("\n") - 1 < asked
    run(folder, url, "plan.json", *greedy, what=("task-scaling",))
    whole, parts = (json.loads((folder / name).read_text()) for name in ("whole_plan.json", "plan.json"))
    assert parts == whole
    assert 2 * asked <= requests_at(log) - before <= 2 * asked + CONCURRENCY


def test_cancelled_requests_stop_on_the_server(folder, server):
    url, process, _ = server
    before = busy(process)
    arguments = ("--strategies", "first-finish@2", "--limit", 1, "--max-new-tokens", TOKENS)
    run(folder, url, "live.json", *arguments, what=("live",))
    (row,) = json.loads((folder / "live.json").read_text())["rows"]
    assert row["cancelled"] == 1
    assert TOKENS <= row["tokens"] < 2 * TOKENS
    answered = busy(process)
    rests = time.monotonic() + 60
    while time.monotonic() < rests:
        now = busy(process)
        time.sleep(0.5)
        if busy(process) - now < 0.02:
            break
    # One response took the processor time of `answered - before`. The other one would take as long if it went on.
    assert busy(process) - answered < (answered - before) / 2


def busy(process):
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system
