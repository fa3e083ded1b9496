"""``evaluate live`` and ``--engine vllm`` against a server that streams: what strategies cost, and what is cancelled."""

import json
import os
import stat
import sys
import threading
import time

import pytest
from typer.testing import CliRunner

from tests.unit.test_server import MODEL, Handler, Stub, data, reply, result_of  # noqa: F401
from verl_efficiency.cli import app
from verl_efficiency.evaluation.live import Plan, parse_plan
from verl_efficiency.settings import SettingsError

pytest.importorskip("openai")


class Streaming(Handler):
    """Sends one piece of text after the other, and counts what it could send before the client left."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = int(request["messages"][-1]["content"].split()[-1])
        sample = request["seed"]
        text, pieces = self.server.plan(number, sample)
        pieces = min(pieces, request["max_tokens"])
        with self.server.lock:
            self.server.asked.append(request)
            self.server.sent[number, sample, len(self.server.asked)] = 0
            mine = (number, sample, len(self.server.asked))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for piece in range(pieces):
                last = piece == pieces - 1
                self.event({"content": text if last else "."}, "stop" if last else None)
                self.server.sent[mine] += 1
                self.server.tick(piece)
            if self.server.usage:
                self.event(None, None, {"prompt_tokens": 3, "completion_tokens": pieces, "total_tokens": 3 + pieces})
            self.wfile.write(b"data: [DONE]\n\n")
        except (BrokenPipeError, ConnectionResetError):
            self.server.left.append(mine)

    def event(self, delta, finish, usage=None):
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        body = {
            "id": "1",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": MODEL,
            "choices": choices,
            "usage": usage,
        }
        self.wfile.write(b"data: " + json.dumps(body).encode() + b"\n\n")
        self.wfile.flush()


class StreamingStub(Stub):
    """Sample s of every problem has ``plan(problem, s)``: its answer and its number of pieces."""

    request_queue_size = 128

    def __init__(self):
        super().__init__()
        self.RequestHandlerClass = Streaming
        self.sent, self.left, self.usage = {}, [], True
        self.plan = lambda number, sample: (rf"\boxed{{{number}}}", 3)
        self.tick = lambda piece: time.sleep(0.005)


@pytest.fixture
def server():
    stub = StreamingStub()
    thread = threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield stub
    stub.shutdown()
    thread.join()
    stub.server_close()


def run(server, file, strategies, *arguments):
    out = file.parent / "strategies.json"
    words = ["evaluate", "live", MODEL, file, "--server", server.url, "--out", out, "--retries", 0]
    outcome = CliRunner().invoke(app, [str(w) for w in (*words, "--strategies", strategies, *arguments)])
    return outcome, out


def rows_of(outcome, out):
    return {(row["strategy"], row["k"]): row for row in result_of(outcome, out)["rows"]}


def test_costs_and_accuracies_by_hand(server, data):  # noqa: F811
    # The samples of each of the six problems are right, wrong, right, with 2, 4 and 6 pieces; number 0 has only wrong ones.
    server.plan = lambda number, sample: (
        rf"\boxed{{{number + (sample % 2 if number else 9)}}}",
        2 + 2 * (sample % 3),
    )
    rows = rows_of(*run(server, data, "plain,cap@1,majority@3,early-stop@3"))
    expected = {("plain", 1): (5 / 6, 2), ("cap 1", 1): (5 / 6, 1), ("majority", 3): (5 / 6, 12)}
    for name, (accuracy, tokens) in expected.items():
        assert (rows[name]["accuracy"], rows[name]["tokens"]) == (pytest.approx(accuracy), tokens)
    # Number 0: two equal answers are enough; the others need the third sample.
    assert rows["early stop", 3]["tokens"] == (5 * 12 + 6) / 6
    assert len(server.asked) == 6 * (1 + 1 + 3) + 5 * 3 + 2


def test_what_is_cancelled_stops_on_the_server_and_counts_until_then(server, data):  # noqa: F811
    server.plan = lambda number, sample: (rf"\boxed{{{number}}}", 3 if sample == 2 else 10_000)
    server.usage = False
    outcome = run(server, data, "first-finish@4", "--concurrency", 4, "--limit", 2, "--max-new-tokens", 10_000)
    row = rows_of(*outcome)["first finish", 4]
    assert row["accuracy"] == 1.0
    assert row["cancelled"] == 3.0
    until = time.monotonic() + 20
    while len(server.left) < 6 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(server.left) == 6, "every cancelled request ended"
    assert all(sent < 5_000 for sent in server.sent.values())
    paid, sent = row["tokens"] * 2, sum(server.sent.values())
    assert 2 * 3 <= paid <= sent


def test_short_m_takes_the_first_to_finish(server, data):  # noqa: F811
    # Two of the first three to finish are wrong in the same way; the slow ones would outvote them.
    wrong = (0, 2)
    server.plan = lambda number, sample: (
        rf"\boxed{{{number + (100 if sample in wrong else 0)}}}",
        10 if sample < 3 else 5_000,
    )
    row = rows_of(*run(server, data, "short-3@6", "--limit", 1, "--max-new-tokens", 10_000))["short-3", 6]
    assert (row["accuracy"], row["cancelled"]) == (0.0, 3.0)


def test_an_interrupted_run_asks_only_what_is_missing(server, data):  # noqa: F811
    whole = rows_of(*run(server, data, "majority@2"))
    store = data.parent / "strategies.responses.jsonl"
    lines = store.read_text().splitlines(keepends=True)
    store.write_text("".join(lines[:5]) + lines[5][:20])
    server.asked.clear()
    assert rows_of(*run(server, data, "majority@2")) == whole
    assert len(server.asked) == 2 * 2


def test_a_stream_that_breaks_off_is_one_line(server, data):  # noqa: F811
    def broken(piece):
        raise BrokenPipeError

    server.tick = broken
    outcome, out = run(server, data, "plain")
    assert "6 of 6" in str(outcome.exception)
    assert not out.exists()


def test_a_dead_server_is_not_asked_for_everything(server, data):  # noqa: F811
    def broken(piece):
        raise BrokenPipeError

    server.tick = broken
    outcome, _ = run(server, data, "plain,cap@2,cap@3,cap@4,cap@5,cap@6,cap@7,cap@8", "--concurrency", 1)
    assert "48 of 48" in str(outcome.exception)
    assert len(server.asked) == 8


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (r"\boxed{{7}} #### {}", ("--marker", "####")),
        (r"\boxed{{{}}}<think>\boxed{{7}}", ("--strip-thinking",)),
    ],
)
def test_answers_are_graded_and_voted_on_where_the_options_say(server, data, text, options):  # noqa: F811
    # The first sample to finish is wrong, the other two agree on the right answer. In the last boxes all say 7.
    server.plan = lambda number, sample: (text.format(number if sample else 99), 3 if sample == 0 else 20)
    rows = rows_of(*run(server, data, "majority@3,early-stop@3"))
    assert [row["accuracy"] for row in rows.values()] == [0.0, 0.0]
    assert rows["early stop", 3]["tokens"] == 3 + 20  # two equal answers
    assert "--store" in str(run(server, data, "majority@3", *options)[0].exception)  # it holds other votes
    rows = rows_of(*run(server, data, "majority@3,early-stop@3", *options, "--store", data.parent / "other.jsonl"))
    assert [row["accuracy"] for row in rows.values()] == [1.0, 1.0]
    assert rows["early stop", 3]["tokens"] == 3 + 20 + 20


@pytest.mark.parametrize(
    ("strategies", "said"),
    [("plain@2", "plain@2"), ("short-9@8", "short-9@8"), ("cap", "cap"), ("best-of@4", "best-of@4")],
)
def test_unknown_strategies_are_refused(server, data, strategies, said):  # noqa: F811
    outcome, _ = run(server, data, strategies)
    assert isinstance(outcome.exception, SettingsError)
    assert said in str(outcome.exception)
    assert server.asked == []


def test_more_samples_than_requests_at_a_time_are_refused(server, data):  # noqa: F811
    assert "--concurrency" in str(run(server, data, "majority@8", "--concurrency", 4)[0].exception)


def test_the_names_of_strategies():
    assert parse_plan("short-3@8") == Plan("short-3", 8, 3)
    assert parse_plan("majority@4") == Plan("majority", 4, 4)
    assert parse_plan("first-finish@4") == Plan("first finish", 4, 1)


# --engine vllm, with a program of that name that speaks the API

VLLM = """#!{python}
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

words = sys.argv[1:]
record = {record!r}
with open(record, "w") as file:
    json.dump([os.getpid(), words], file)
if "--fail" in words:
    sys.exit("CUDA out of memory")

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send({{"object": "list", "data": [{{"id": words[words.index("--served-model-name") + 1], "object": "model"}}]}})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send({reply!r})

    def send(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

HTTPServer(("127.0.0.1", int(words[words.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    """The file where the program writes its process and its arguments."""
    program, record = tmp_path / "bin" / "vllm", tmp_path / "started.json"
    program.parent.mkdir()
    program.write_text(VLLM.format(python=sys.executable, record=str(record), reply=reply(r"\boxed{1}")))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return record


def evaluate_with_vllm(file, *arguments):
    model = file.parent / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").touch()
    out = file.parent / "result.json"
    words = ["evaluate", model, file, "--engine", "vllm", "--out", out, *arguments]
    return CliRunner().invoke(app, [str(word) for word in words]), out


def test_vllm_is_started_asked_and_stopped(vllm, data):  # noqa: F811
    result = result_of(*evaluate_with_vllm(data, "--engine-args", "--max-model-len 4096"))
    assert result["summary"]["accuracy"] == pytest.approx(1 / 6)
    process, words = json.loads(vllm.read_text())
    assert words[:2] == ["serve", str(data.parent / "model")]
    assert words[-2:] == ["--max-model-len", "4096"]
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_vllm_that_does_not_start_is_one_line_with_its_reason(vllm, data):  # noqa: F811
    outcome, out = evaluate_with_vllm(data, "--engine-args=--fail")
    assert isinstance(outcome.exception, SettingsError)
    assert "CUDA out of memory" in str(outcome.exception)
    assert not out.exists()


def test_another_engine_is_refused(data):  # noqa: F811
    outcome = CliRunner().invoke(app, ["evaluate", MODEL, str(data), "--engine", "vlm"])
    assert "did you mean 'vllm'" in str(outcome.exception)


def test_without_vllm_the_fix_is_named(data, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PATH", "")
    outcome, _ = evaluate_with_vllm(data)
    assert "pip install vllm" in str(outcome.exception)
