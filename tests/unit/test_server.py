"""``evaluate --server`` against a real HTTP server in a thread: what it asks, what it keeps, and how bad servers end."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from verl_efficiency.cli import app
from verl_efficiency.settings import SettingsError
from verl_efficiency.testbed.checks.task import CHARACTERS
from verl_efficiency.testbed.tokenizer import build_tokenizer

pytest.importorskip("openai")

MODEL = "served-model"


def reply(text, *, tokens=7, finish="stop", usage=True, **message):
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text} | message}],
    }
    if usage:
        body["usage"] = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}
    return body


class Stub(ThreadingHTTPServer):
    """Answers every question with what ``answer`` says: a status and a body (or raw bytes)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict] = []
        self.answer = lambda request, number: (
            200,
            reply(rf"\boxed{{{request['messages'][-1]['content'].split()[-1]}}}"),
        )
        self.at_a_time = self.most_at_a_time = 0
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "x"}]})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(request)
            number = len(self.server.asked)
            self.server.at_a_time += 1
            self.server.most_at_a_time = max(self.server.most_at_a_time, self.server.at_a_time)
        try:
            status, body = self.server.answer(request, number)
            if status == 0:
                self.connection.close()
            else:
                self.send(status, body)
        finally:
            with self.server.lock:
                self.server.at_a_time -= 1

    def send(self, status, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server():
    stub = Stub()
    thread = threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield stub
    stub.shutdown()
    thread.join()
    stub.server_close()


@pytest.fixture
def data(tmp_path):
    rows = [
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": f"What is {number}"}],
            "reward_model": {"style": "rule", "ground_truth": str(number)},
            "extra_info": {"index": number},
        }
        for number in range(6)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    return tmp_path / "data.parquet"


def run(server, data, *arguments, model=MODEL):
    out = data.parent / "result.json"
    options = ["--server", server if isinstance(server, str) else server.url, "--out", out, "--retries", 0, *arguments]
    outcome = CliRunner().invoke(app, [str(word) for word in ("evaluate", model, data, *options)])
    return outcome, out


def result_of(outcome, out):
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    return json.loads(out.read_text())


def test_every_prompt_is_asked_once_and_graded(server, data):
    result = result_of(*run(server, data, "--samples", 2, "--concurrency", 3))
    assert result["summary"]["accuracy"] == 1.0
    assert result["summary"]["tokens_per_problem"] == 7
    assert (result["summary"]["responses"], len(server.asked)) == (12, 12)
    assert 1 <= server.most_at_a_time <= 3
    # Two samples of a prompt have two seeds, the same ones in every run
    assert sorted({request["seed"] for request in server.asked}) == [0, 1]
    assert server.asked[0]["max_tokens"] == 1024


def test_an_interrupted_run_asks_nothing_twice(server, data):
    whole = result_of(*run(server, data))
    store = data.parent / "result.responses.jsonl"
    lines = store.read_text().splitlines(keepends=True)
    store.write_text("".join(lines[:4]) + lines[4][:20])  # killed while writing the fourth response
    server.asked.clear()
    again = result_of(*run(server, data))
    assert len(server.asked) == 3
    assert again["per_prompt"] == whole["per_prompt"]
    server.asked.clear()
    result_of(*run(server, data))
    assert server.asked == []


def test_a_store_of_other_settings_is_refused(server, data):
    result_of(*run(server, data))
    outcome, _ = run(server, data, "--temperature", 0.5)
    assert "--store" in str(outcome.exception)
    (data.parent / "result.responses.jsonl").write_text("not a store\n")
    assert "--store" in str(run(server, data)[0].exception)


@pytest.mark.parametrize(
    "content",
    [
        b'{"question": "1+1?", "answer": "2"}\n',
        b'{"question": "1+1?", "answer": "2"}\n{"question": "2+2?", "answer": "4"}',
        b"a note\nwithout an end",
        b"a note",
        b"[1]\n",
        b'{"model": "m"}\n',
        b"PAR1\xff\xfe\n\xff",
        b'{"model": "served-model", "sampling": {}, "chat_template": {}}\n{"text": "x"}\n{"te',
    ],
)
def test_a_file_that_is_not_a_store_stays_as_it_is(server, data, content):
    file = data.parent / "mine.jsonl"
    file.write_bytes(content)
    outcome, _ = run(server, data, "--store", file)
    assert isinstance(outcome.exception, SettingsError)
    assert f"--store: {file}" in str(outcome.exception)
    assert file.read_bytes() == content
    assert server.asked == []


def test_a_store_of_a_header_alone_takes_other_settings(server, data):
    header = '{"model": "other", "sampling": {}, "chat_template": {}}'
    for content in (header, header + "\n", header + '\n{"key": "cut'):
        (data.parent / "mine.jsonl").write_text(content)
        assert result_of(*run(server, data, "--store", data.parent / "mine.jsonl"))["summary"]["responses"] == 6


def test_reasoning_that_is_given_apart_is_counted_and_not_graded(server, data):
    server.answer = lambda request, number: (200, reply("I do not know", reasoning_content=r"\boxed{0}", tokens=20))
    assert result_of(*run(server, data))["summary"]["accuracy"] == 0.0


def test_reasoning_tokens_by_usage(server, data):
    def answer(request, number):
        body = reply(r"\boxed{0}", tokens=20)
        body["usage"]["completion_tokens_details"] = {"reasoning_tokens": 15}
        return 200, body

    server.answer = answer
    assert result_of(*run(server, data))["summary"]["reasoning_share"] == 0.75


def test_a_cut_off_response_is_known_as_such(server, data):
    server.answer = lambda request, number: (200, reply("so", finish="length"))
    assert result_of(*run(server, data))["summary"]["truncated_share"] == 1.0


@pytest.fixture
def tokenizer(tmp_path):
    build_tokenizer(CHARACTERS).save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_without_usage_the_tokenizer_counts(server, data, tokenizer):
    server.answer = lambda request, number: (200, reply("123</think>45", usage=False))
    expected = len(build_tokenizer(CHARACTERS)("123</think>45", add_special_tokens=False)["input_ids"]) + 1
    result = result_of(*run(server, data, "--tokenizer", tokenizer))
    assert result["summary"]["tokens_per_problem"] == expected
    assert result["summary"]["reasoning_share"] == pytest.approx(3 / expected)


def test_counts_that_differ_are_told(server, data, tokenizer):
    server.answer = lambda request, number: (200, reply("12345", tokens=500))
    outcome, out = run(server, data, "--tokenizer", tokenizer)
    assert result_of(outcome, out)["summary"]["tokens_per_problem"] == 500
    assert "500 and 6 tokens" in outcome.output


# bad servers: one line, what arrived is kept, exit code not 0


def after_two(status, body=b"{}"):
    """Two good answers, then trouble."""
    return lambda request, number: (200, reply("x")) if number <= 2 else (status, body)


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (after_two(500), "500"),
        (after_two(503, {"error": {"message": "loading the model"}}), "loading the model"),
        (after_two(429, {"error": {"message": "too many"}}), "too many"),
        (after_two(0), "onnection"),
        (after_two(200, b'{"choices": [{"mess'), "4 of 6"),
        (after_two(200, reply("x") | {"choices": []}), "no choices"),
        (after_two(200, reply("x", usage=False)), "--tokenizer"),
    ],
)
def test_trouble_in_the_middle_keeps_what_arrived(server, data, answer, named):
    server.answer = answer
    outcome, out = run(server, data, "--concurrency", 1)
    assert isinstance(outcome.exception, SettingsError)
    message = str(outcome.exception)
    assert named in message
    assert "4 of 6" in message
    assert len(message.splitlines()) == 1
    assert not out.exists()
    server.answer = lambda request, number: (200, reply("x"))
    server.asked.clear()
    assert result_of(*run(server, data))["summary"]["responses"] == 6
    assert len(server.asked) == 4


def test_a_time_out(server, data):
    def slow(request, number):
        time.sleep(1.5)
        return 200, reply("x")

    server.answer = slow
    outcome, _ = run(server, data, "--timeout", 0.3)
    assert "imed out" in str(outcome.exception)


def test_what_passes_is_tried_again(server, data):
    server.answer = lambda request, number: (200, reply("x")) if number > 2 else (429, {"error": {"message": "later"}})
    outcome, out = run(server, data, "--retries", 3, "--concurrency", 1)
    assert result_of(outcome, out)["summary"]["responses"] == 6
    assert len(server.asked) == 8


@pytest.mark.parametrize(
    ("status", "said"),
    [(400, "prompt is too long"), (401, "wrong key"), (404, "no such route"), (422, "not processable")],
)
def test_a_refusal_ends_the_run_at_once(server, data, status, said):
    server.answer = lambda request, number: (status, {"error": {"message": said}})
    outcome, _ = run(server, data, "--retries", 4, "--concurrency", 1)
    assert isinstance(outcome.exception, SettingsError)
    assert said in str(outcome.exception)
    assert len(server.asked) == 1


def test_a_dead_server_is_not_asked_for_everything(server, data):
    rows = pq.read_table(data).to_pylist() * 10
    pq.write_table(pa.Table.from_pylist(rows), data)
    server.answer = lambda request, number: (500, {})
    outcome, _ = run(server, data, "--concurrency", 2)
    assert "60 of 60" in str(outcome.exception)
    assert len(server.asked) < 20


def test_another_model_and_no_server(server, data):
    outcome, _ = run(server, data, model="served-modle")
    assert f"did you mean '{MODEL}'" in str(outcome.exception)
    outcome, _ = run("http://127.0.0.1:9/v1", data)
    assert "nothing answers" in str(outcome.exception)
    assert ".:" not in str(outcome.exception)  # an error and its cause
    outcome, _ = run("127.0.0.1:8000", data)
    assert "--server" in str(outcome.exception)
