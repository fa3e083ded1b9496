"""``evaluate --server`` against a real HTTP server in a thread: what it asks, what it keeps, and how bad servers end."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from verl_efficiency.cli import app, main
from verl_efficiency.commands.options import Generating
from verl_efficiency.evaluation.reasoning import find_reasoning
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
    """Answers every question with what ``answer`` says: a status and a body (or raw bytes).

    Status 0: the bytes are written without a header, and the connection is closed.
    """

    request_queue_size = 128  # many clients connect at once
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
                self.wfile.write(body)
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


@pytest.fixture
def tokenizer(tmp_path):
    """One token for each character."""
    build_tokenizer(CHARACTERS + "</>").save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def parts(result):
    return result["summary"]["reasoning_tokens_per_problem"], result["summary"]["answer_tokens_per_problem"]


def number_of(request):
    return int(request["messages"][-1]["content"].split()[-1])


def with_reasoning_tokens(body, tokens):
    body["usage"]["completion_tokens_details"] = {"reasoning_tokens": tokens}
    return body


def test_reasoning_that_is_given_apart_is_counted_and_not_graded(server, data, tokenizer):
    server.answer = lambda request, number: (200, reply("45", reasoning_content=r"so \boxed{0}", tokens=10))
    result = result_of(*run(server, data, "--tokenizer", tokenizer))
    assert result["summary"]["accuracy"] == 0.0
    assert parts(result) == (5, 5)  # s, o, \boxed{, 0, }: the tokenizer has no blank


def test_reasoning_tokens_by_usage(server, data):
    server.answer = lambda request, number: (200, with_reasoning_tokens(reply(r"\boxed{0}", tokens=20), 15))
    outcome, out = run(server, data)
    assert parts(result_of(outcome, out)) == (15, 5)
    assert "reasoning, answer: the two parts of the tokens per problem." in outcome.output


def test_reasoning_tokens_by_the_usage_of_sglang(server, data):
    def answer(request, number):
        body = reply("45", tokens=20, reasoning_content="123")
        body["usage"]["reasoning_tokens"] = 15
        return 200, body

    server.answer = answer
    assert parts(result_of(*run(server, data))) == (15, 5)


def test_a_cut_off_response_is_known_as_such(server, data):
    server.answer = lambda request, number: (200, reply("so", finish="length"))
    assert result_of(*run(server, data))["summary"]["truncated_share"] == 1.0


def test_some_reason_some_do_not_and_some_are_cut_off_in_it(server, data, tokenizer):
    answers = [
        reply("123</think>45", tokens=20),
        reply("45", tokens=20),
        reply("123456", finish="length", tokens=20),  # the prompt opens the reasoning, as the first response shows
        reply("", reasoning_content="1234", finish="length", tokens=20),
        reply("<think>12</think>3", tokens=20),
        reply("<think>12345", finish="length", tokens=20),
    ]
    server.answer = lambda request, number: (200, answers[number_of(request)])
    rows = data.parent / "rows.jsonl"
    result = result_of(*run(server, data, "--tokenizer", tokenizer, "--rows", rows))
    assert [json.loads(line)["reasoning_tokens"] for line in rows.read_text().splitlines()] == [3, 0, 6, 4, 2, 5]
    assert parts(result) == (pytest.approx(20 / 6), pytest.approx(100 / 6))


def test_responses_that_only_answer(server, data):
    outcome, out = run(server, data)
    assert parts(result_of(outcome, out)) == (0, 7)
    assert "reason" not in outcome.output


@pytest.mark.parametrize("told", [None, 0])
def test_reasoning_that_cannot_be_counted_is_told_and_can_be_counted_later(server, data, tokenizer, told):
    body = reply("45", reasoning_content="123456", tokens=9)
    server.answer = lambda request, number: (200, body if told is None else with_reasoning_tokens(body, told))
    outcome, out = run(server, data)
    assert parts(result_of(outcome, out)) == (None, None)
    (line,) = [line for line in outcome.output.splitlines() if "warning" in line]
    assert "6 of 6 responses" in line
    assert "--tokenizer" in line
    server.asked.clear()
    outcome, out = run(server, data, "--tokenizer", tokenizer)
    assert parts(result_of(outcome, out)) == (6, 3)
    assert "warning" not in outcome.output
    assert server.asked == []


def test_without_usage_the_tokenizer_counts(server, data, tokenizer):
    server.answer = lambda request, number: (200, reply("123</think>45", usage=False))
    result = result_of(*run(server, data, "--tokenizer", tokenizer))
    assert result["summary"]["tokens_per_problem"] == 3 + 8 + 2 + 1  # with the end-of-sequence token
    assert parts(result) == (3, 11)


def test_without_usage_and_tokenizer_the_responses_are_kept(server, data, tokenizer):
    server.answer = lambda request, number: (200, reply("45", usage=False))
    outcome, out = run(server, data)
    assert isinstance(outcome.exception, SettingsError)
    assert "6 of 6 responses have no usage; give --tokenizer" in str(outcome.exception)
    assert not out.exists()
    server.asked.clear()
    assert result_of(*run(server, data, "--tokenizer", tokenizer))["summary"]["tokens_per_problem"] == 3
    assert server.asked == []


def test_counts_that_differ_are_told(server, data, tokenizer):
    server.answer = lambda request, number: (200, reply("12345", tokens=500))
    outcome, out = run(server, data, "--tokenizer", tokenizer)
    assert result_of(outcome, out)["summary"]["tokens_per_problem"] == 500
    assert "the tokens of 6 responses differently: 500 and 6 tokens" in " ".join(outcome.output.split())


def test_reasoning_counts_that_differ_are_told(server, data, tokenizer):
    server.answer = lambda request, number: (200, with_reasoning_tokens(reply("123</think>45", tokens=14), 12))
    outcome, out = run(server, data, "--tokenizer", tokenizer)
    assert parts(result_of(outcome, out)) == (12, 2)
    (line,) = [line for line in outcome.output.splitlines() if "warning" in line]
    assert "the reasoning tokens of 6 responses differently: 12 and 3 reasoning tokens" in line


def test_reasoning_that_the_server_counts_and_hides_is_no_difference(server, data, tokenizer):
    server.answer = lambda request, number: (200, with_reasoning_tokens(reply("45", tokens=103), 100))
    outcome, out = run(server, data, "--tokenizer", tokenizer)
    assert parts(result_of(outcome, out)) == (100, 3)
    assert "warning" not in outcome.output


@pytest.mark.parametrize(
    ("text", "truncated", "found"),
    [
        ("45", True, ""),
        ("<think>\n\n</think>45", False, ""),
        ("1<think>2</think>3<think>4</think>5", False, "24"),
        ("1</think>2</think>3", False, "12"),
        ("1<think>2</think>3<think>4", True, "24"),
        ("<think>2", False, "2"),
    ],
)
def test_where_reasoning_begins_and_ends(text, truncated, found):
    assert find_reasoning([text], [truncated]) == [found]


def test_the_tokenizer_of_a_model_that_vllm_serves(data, tokenizer, monkeypatch):
    @contextlib.contextmanager
    def started(*_):
        yield "http://127.0.0.1:1/v1"

    monkeypatch.setattr("verl_efficiency.evaluation.local_server.vllm_server", started)
    monkeypatch.setattr("verl_efficiency.evaluation.checkpoint.resolve_model", lambda model: f"{data.parent}/{model}")
    for model, given, expected in [
        ("tokenizer", None, str(tokenizer)),
        ("tokenizer", "mine", "mine"),
        ("none", None, None),
    ]:
        with Generating(engine_name="vllm", tokenizer=given).server_for(model, data.parent / "out.json") as started_one:
            assert started_one.tokenizer == expected


# where the answer stands


@pytest.mark.parametrize(
    ("text", "options", "recorded"),
    [
        (r"\boxed{{7}} #### {}", ("--marker", "####"), ("####", False)),
        (r"\boxed{{7}} <a>{}</a>", ("--marker", "<a>…</a>"), ("<a>…</a>", False)),
        (r"\boxed{{{}}}<think>\boxed{{7}}", ("--strip-thinking",), (None, True)),
    ],
)
def test_the_answer_stands_where_the_options_say(server, data, text, options, recorded):
    server.answer = lambda request, number: (200, reply(text.format(number_of(request))))
    assert result_of(*run(server, data))["summary"]["accuracy"] == 0.0  # the last box is 7
    server.asked.clear()
    result = result_of(*run(server, data, *options))
    assert result["summary"]["accuracy"] == 1.0
    assert (result["marker"], result["strip_thinking"]) == recorded
    assert server.asked == []


def test_a_blank_marker_is_refused_before_anything_is_asked(server, data):
    outcome, _ = run(server, data, "--marker", " ")
    assert str(outcome.exception).startswith("--marker: must be a text")
    assert server.asked == []


# bad servers: one line, what arrived is kept, exit code not 0


def after_two(status, body=b"{}"):
    """Two good answers, then trouble."""
    return lambda request, number: (200, reply("x")) if number <= 2 else (status, body)


def check_that_four_of_six_are_missing(server, data, named, *arguments):
    """One line that names the trouble, no result, and a second run that asks only for what is missing."""
    outcome, out = run(server, data, *arguments)
    assert isinstance(outcome.exception, SettingsError)
    message = str(outcome.exception)
    assert f"--server: 4 of 6 responses are missing ({named}" in message
    assert len(message.splitlines()) == 1
    assert not out.exists()
    server.answer = lambda request, number: (200, reply("x"))
    server.asked.clear()
    assert result_of(*run(server, data))["summary"]["responses"] == 6
    assert len(server.asked) == 4


PART = b'{"choices": [{"mess'
HEADER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (after_two(500), "Error code: 500"),
        (
            after_two(503, {"error": {"message": "loading the model"}}),
            "Error code: 503 - loading the model",
        ),
        (after_two(429, {"error": {"message": "too many"}}), "Error code: 429 - too many"),
        (after_two(0, b""), "Connection error"),
        (after_two(200, PART), "the reply is not whole JSON: Unterminated string"),
        (after_two(0, HEADER + PART), "Connection error: peer closed connection"),
        (after_two(200, reply("x") | {"choices": []}), "the reply has no choices"),
    ],
)
def test_trouble_in_the_middle_keeps_what_arrived(server, data, answer, named):
    server.answer = answer
    check_that_four_of_six_are_missing(server, data, named, "--concurrency", 1)


def test_a_time_out_in_the_middle_keeps_what_arrived(server, data):
    over = threading.Event()

    def slow(request, number):
        if number > 2:
            over.wait(60)
        return 200, reply("x")

    server.answer = slow
    try:
        check_that_four_of_six_are_missing(server, data, "Request timed out", "--concurrency", 4, "--timeout", 3)
    finally:
        over.set()


def test_the_command_ends_with_2_and_one_line(server, data, monkeypatch, capsys):
    server.answer = after_two(500)
    out = data.parent / "result.json"
    words = ["evaluate", MODEL, data, "--server", server.url, "--out", out, "--retries", 0, "--concurrency", 1]
    monkeypatch.setattr("sys.argv", ["verl-efficiency", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert not out.exists()
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: --server: 4 of 6")]
    server.answer = lambda request, number: (200, reply("x"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert out.exists()


def test_what_passes_is_tried_again(server, data):
    server.answer = lambda request, number: (200, reply("x")) if number > 2 else (429, {"error": {"message": "later"}})
    outcome, out = run(server, data, "--retries", 3, "--concurrency", 1)
    assert result_of(outcome, out)["summary"]["responses"] == 6
    assert len(server.asked) == 8


@pytest.mark.parametrize(("status", "said"), [(400, "prompt is too long"), (422, "not processable")])
def test_a_refused_row_is_named_and_the_others_are_kept(server, data, status, said):
    def answer(request, number):
        refused = number_of(request) in (1, 4)
        return (status, {"error": {"message": said}}) if refused else (200, reply("x"))

    server.answer = answer
    for asked in (6, 2):  # a second run asks only those again
        server.asked.clear()
        outcome, out = run(server, data, "--retries", 4, "--concurrency", 1)
        assert isinstance(outcome.exception, SettingsError)
        message = str(outcome.exception)
        assert len(message.splitlines()) == 1
        for part in ("2 of 6", said, "rows 1, 4 of the data", "'What is 1'", "leave them out", "--max-model-len"):
            assert part in message
        assert not out.exists()
        assert len(server.asked) == asked
    rows = pq.read_table(data).to_pylist()
    pq.write_table(pa.Table.from_pylist([rows[0], *rows[2:4], rows[5]]), data)  # the advice
    server.asked.clear()
    assert result_of(*run(server, data))["summary"]["responses"] == 4
    assert server.asked == []


def test_many_refused_rows_are_counted(server, data):
    rows = pq.read_table(data).to_pylist()
    more = [row | {"prompt": [{"role": "user", "content": f"What is {n}"}]} for n in range(30) for row in rows[:1]]
    pq.write_table(pa.Table.from_pylist(more), data)
    server.answer = lambda request, number: (400, {"error": {"message": "too long"}})
    message = str(run(server, data, "--samples", 2)[0].exception)
    assert "60 of 60 responses" in message
    assert ", 18, 19 and 10 more of the data" in message


@pytest.mark.parametrize(
    ("status", "said", "fix"),
    [(401, "wrong key", "OPENAI_API_KEY"), (403, "not yours", "OPENAI_API_KEY"), (404, "no such route", "/v1")],
)
def test_a_refusal_of_every_request_ends_the_run_at_once(server, data, status, said, fix):
    server.answer = lambda request, number: (status, {"error": {"message": said}})
    outcome, out = run(server, data, "--retries", 4, "--concurrency", 1)
    assert isinstance(outcome.exception, SettingsError)
    assert said in str(outcome.exception)
    assert fix in str(outcome.exception)
    assert not out.exists()
    assert len(server.asked) == 1


def test_requests_in_flight_are_finished_and_kept(server, data):
    refused = threading.Event()

    def answer(request, number):
        if number == 1:
            refused.wait(60)
            time.sleep(0.2)  # the client has read the refusal
            return 200, reply("x")
        refused.set()
        return 401, {"error": {"message": "expired"}}

    server.answer = answer
    outcome, _ = run(server, data, "--concurrency", 2)
    assert "expired" in str(outcome.exception)
    assert "result.responses.jsonl: 1;" in str(outcome.exception)
    assert len(server.asked) == 2
    server.answer = lambda request, number: (200, reply("x"))
    server.asked.clear()
    assert result_of(*run(server, data))["summary"]["responses"] == 6
    assert len(server.asked) == 5


def test_a_dead_server_is_not_asked_for_everything(server, data):
    rows = pq.read_table(data).to_pylist() * 10
    pq.write_table(pa.Table.from_pylist(rows), data)
    server.answer = lambda request, number: (500, {})
    outcome, _ = run(server, data, "--concurrency", 2)
    assert "60 of 60" in str(outcome.exception)
    assert len(server.asked) < 20


def test_a_server_that_dies_in_the_middle_is_not_asked_for_everything(server, data):
    rows = [row | {"extra_info": {"index": 0}} for row in pq.read_table(data).to_pylist() * 20]
    pq.write_table(pa.Table.from_pylist(rows), data)
    works = server.answer
    server.answer = lambda request, number: works(request, number) if number <= 20 else (500, {})
    outcome, _ = run(server, data, "--concurrency", 1)
    assert "100 of 120" in str(outcome.exception)
    assert len(server.asked) == 20 + 8


def test_a_server_that_stumbles_is_asked_for_everything(server, data):
    rows = pq.read_table(data).to_pylist() * 10
    pq.write_table(pa.Table.from_pylist(rows), data)
    works = server.answer
    server.answer = lambda request, number: (500, {}) if number in range(10, 19) else works(request, number)
    outcome, _ = run(server, data, "--concurrency", 10)
    assert "9 of 60" in str(outcome.exception)
    assert len(server.asked) == 60


def test_another_model_and_no_server(server, data):
    outcome, _ = run(server, data, model="served-modle")
    assert f"did you mean '{MODEL}'" in str(outcome.exception)
    outcome, _ = run("http://127.0.0.1:9/v1", data)
    assert "nothing answers" in str(outcome.exception)
    assert ".:" not in str(outcome.exception)  # an error and its cause
    outcome, _ = run("127.0.0.1:8000", data)
    assert "--server" in str(outcome.exception)
