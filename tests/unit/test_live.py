"""``evaluate live`` and ``--engine vllm`` against a server that streams: what strategies cost, and what is cancelled."""

import itertools
import json
import os
import stat
import sys
import threading
import time

import pytest
from typer.testing import CliRunner

from tests.unit.test_server import MODEL, Handler, Stub, data, reply, result_of, tokenizer  # noqa: F401
from verl_efficiency.cli import app
from verl_efficiency.evaluation.plans import Plan, parse_plan
from verl_efficiency.settings import SettingsError
from verl_efficiency.testbed.checks.task import CHARACTERS
from verl_efficiency.testbed.tokenizer import build_tokenizer

pytest.importorskip("openai")


class Streaming(Handler):
    """Sends one piece of text after the other, and counts what it could send before the client left."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = next(int(m["content"].split()[-1]) for m in request["messages"] if m["role"] == "user")
        if not request.get("stream"):
            self.server.probes.append(request)
            self.send(*self.server.probe(request))
            return
        self.request_body = request
        sample = request["seed"]
        text, pieces = self.server.plan(number, sample)
        pieces = min(pieces, request["max_tokens"])
        with self.server.lock:
            self.server.asked.append(request)
            self.server.sent[number, sample, len(self.server.asked)] = 0
            mine = (number, sample, len(self.server.asked))
        if trouble := self.server.trouble(number, sample, mine[-1]):
            trouble(self)
            return
        self.begin()
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

    def begin(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()

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


def continues(request, keeps=True, ends=5, usage=True):
    """A server that goes on with an assistant's turn. Another one ends it: that has ``ends`` tokens."""
    words = " ".join(m["content"] for m in request["messages"] if keeps or m["role"] == "user").split()
    body = reply("x", usage=usage)
    if usage:
        body["usage"]["prompt_tokens"] = len(words) + (0 if request.get("continue_final_message") else ends)
    return 200, body


class StreamingStub(Stub):
    """Sample s of every problem has ``plan(problem, s)``: its answer and its number of pieces.

    ``trouble(problem, s, request)`` is a function of the handler that answers instead, or None.
    """

    request_queue_size = 128

    def __init__(self):
        super().__init__()
        self.RequestHandlerClass = Streaming
        self.sent, self.left, self.usage = {}, [], True
        self.plan = lambda number, sample: (rf"\boxed{{{number}}}", 3)
        self.tick = lambda piece: time.sleep(0.005)
        self.trouble = lambda number, sample, request: None
        self.probes, self.probe = [], continues


@pytest.fixture
def server():
    stub = StreamingStub()
    thread = threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield stub
    stub.shutdown()
    thread.join()
    stub.server_close()


def run(server, file, strategies, *arguments, model=MODEL):
    out = file.parent / "strategies.json"
    words = ["evaluate", "live", model, file, "--server", server.url, "--out", out, "--retries", 0]
    outcome = CliRunner().invoke(app, [str(w) for w in (*words, "--strategies", strategies, *arguments)])
    return outcome, out


def rows_of(outcome, out):
    return {(row["strategy"], row["k"]): row for row in result_of(outcome, out)["rows"]}


def stored(file, ended="finished"):
    lines = (file.parent / "strategies.responses.jsonl").read_text().splitlines()[1:]
    return [line for line in map(json.loads, lines) if line["ended"] == ended]


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


@pytest.mark.parametrize("strategy", ["majority@2", "early-stop@2"])
def test_an_interrupted_run_asks_only_for_missing_samples(server, data, strategy):  # noqa: F811
    whole = rows_of(*run(server, data, strategy))
    assert len(server.asked) == 6 * 2
    store = data.parent / "strategies.responses.jsonl"
    lines = store.read_text().splitlines(keepends=True)
    store.write_text("".join(lines[:6]) + lines[6][:20])  # five samples, and one that was cut off
    server.asked.clear()
    assert rows_of(*run(server, data, strategy)) == whole
    assert len(server.asked) == 12 - 5


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


def test_a_server_that_dies_in_the_middle_is_not_asked_for_everything(server, data):  # noqa: F811
    def gone(handler):
        handler.send(500, {})

    server.trouble = lambda number, sample, request: gone if request > 6 else None
    outcome, _ = run(server, data, "plain,cap@2,cap@3,cap@4,cap@5,cap@6,cap@7,cap@8", "--concurrency", 1)
    assert "42 of 48" in str(outcome.exception)
    assert len(server.asked) == 6 + 8


@pytest.mark.parametrize("known", [True, False], ids=["taken", "refused"])
def test_a_usage_in_every_piece_is_what_a_cancelled_stream_costs(server, data, known):  # noqa: F811
    """Where the server refuses to send it, each piece counts as a token."""
    begun = threading.Semaphore(0)

    def endless(handler):
        handler.begin()
        for number in itertools.count():
            usage = {"prompt_tokens": 3, "completion_tokens": 7000, "total_tokens": 7003}
            handler.event({"content": "."}, None, usage if known else None)
            if number == 25:
                begun.release()
            time.sleep(0.02)

    def refuses(handler):
        handler.send(400, {"error": {"message": "Unknown parameter: 'stream_options.continuous_usage_stats'."}})

    def trouble(number, sample, request):
        if not known and "continuous_usage_stats" in server.asked[request - 1]["stream_options"]:
            return refuses
        if sample:
            return endless
        for _ in range(3):  # the first to finish does so when the others have begun
            begun.acquire(timeout=60)
        return None

    server.trouble = trouble
    server.plan = lambda number, sample: (rf"\boxed{{{number}}}", 30)
    (row,) = rows_of(*run(server, data, "first-finish@4", "--limit", 1)).values()
    (done,), cancelled = stored(data), stored(data, "cancelled")
    assert (row["accuracy"], row["cancelled"], done["tokens"]) == (1.0, 3.0, 30)
    assert all(one["tokens"] == 7000 if known else 0 < one["tokens"] < 7000 for one in cancelled)
    assert len(server.asked) == (4 if known else 8)


# think@TOKENS


def thinks(where="content", answer=("The ", "sum: ")):
    """Thinks in eleven pieces, ends the thought in one, and answers in three; is right only after a closed thought."""

    def handler(handler):
        request = handler.request_body
        number = request["messages"][-1]["content"].split()[-1]
        answered = {"content": rf"\boxed{{{number}}}"}
        if request["messages"][-1]["role"] == "assistant":
            number = request["messages"][0]["content"].split()[-1]
            pieces = [{"content": "so "}, {"content": rf"\boxed{{{number}}}"}]
        elif where == "content":
            pieces = (
                [{"content": "<think>"}] + [{"content": f"{step} "} for step in range(10)] + [{"content": "</think>"}]
            )
            pieces += [{"content": word} for word in answer] + [answered]
        else:
            pieces = [{where: f"{step} "} for step in range(11)] + [{"content": word} for word in answer] + [answered]
        sent = pieces[: request["max_tokens"]]
        handler.begin()
        for place, piece in enumerate(sent, start=1):
            cut = "length" if place < len(pieces) else "stop"
            handler.event(piece, cut if place == len(sent) else None)
        handler.event(None, None, {"prompt_tokens": 3, "completion_tokens": len(sent), "total_tokens": 9})
        handler.wfile.write(b"data: [DONE]\n\n")

    return lambda number, sample, request: handler


@pytest.mark.parametrize(
    ("where", "budget", "turn"),
    [
        ("content", 4, "<think>\n0 1 2\n</think>\n\n"),
        ("content", 12, "<think>\n0 1 2 3 4 5 6 7 8 9\n</think>\n\n"),
        ("content", 14, "<think>\n0 1 2 3 4 5 6 7 8 9\n</think>\n\nThe sum: "),
        ("reasoning_content", 4, "<think>\n0 1 2 3\n</think>\n\n"),
        ("reasoning", 12, "<think>\n0 1 2 3 4 5 6 7 8 9 10\n</think>\n\nThe "),
    ],
)
def test_a_thinking_budget_asks_for_the_answer(server, data, where, budget, turn):  # noqa: F811
    server.trouble = thinks(where)
    rows = rows_of(*run(server, data, f"cap@{budget},think@{budget}", "--max-new-tokens", 50, "--seed", 7))
    assert (rows[f"cap {budget}", 1]["accuracy"], rows[f"cap {budget}", 1]["tokens"]) == (0.0, budget)
    assert (rows[f"think {budget}", 1]["accuracy"], rows[f"think {budget}", 1]["tokens"]) == (1.0, budget + 2)
    second = [request for request in server.asked if request["messages"][-1]["role"] == "assistant"]
    assert len(server.asked) == 6 + 2 * 6
    assert len(second) == 6
    for request in second:
        assert [message["role"] for message in request["messages"]] == ["user", "assistant"]
        assert request["messages"][-1]["content"] == turn
        assert (request["continue_final_message"], request["add_generation_prompt"]) == (True, False)
        assert (request["max_tokens"], request["seed"]) == (50 - budget, 7)


def test_a_thought_within_its_budget_is_one_request(server, data):  # noqa: F811
    server.trouble = thinks()
    row = rows_of(*run(server, data, "think@20", "--max-new-tokens", 50))["think 20", 1]
    assert (row["accuracy"], row["tokens"], len(server.asked)) == (1.0, 15, 6)


def test_a_thought_is_not_paid_for_twice(server, data):  # noqa: F811
    server.trouble = lambda number, sample, request: thinks()(number, sample, request) if request < 12 else closed
    outcome, _ = run(server, data, "think@4", "--max-new-tokens", 50)
    assert "1 of 6" in str(outcome.exception)
    server.trouble = thinks()
    server.asked.clear()
    row = rows_of(*run(server, data, "think@4", "--max-new-tokens", 50))["think 4", 1]
    assert [request["messages"][-1]["role"] for request in server.asked] == ["assistant"]
    assert (row["accuracy"], row["tokens"]) == (1.0, 4 + 2 + 2 / 6)


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        (lambda request: continues(request, ends=0), "ignores continue_final_message"),
        (lambda request: continues(request, keeps=False), "drops the thought"),
        (lambda request: continues(request, usage=False), "no usage"),
        (lambda request: (400, {"error": {"message": "the final message does not appear"}}), "does not appear"),
        (lambda request: (422, {"error": {"message": "Unexpected fields"}}), "Unexpected fields"),
        (lambda request: (500, {"error": {"message": "a bug"}}), "a bug"),
    ],
)
def test_a_server_that_cannot_go_on_is_refused_before_it_is_asked(server, data, probe, said):  # noqa: F811
    server.probe = probe
    outcome, out = run(server, data, "plain,think@4")
    assert isinstance(outcome.exception, SettingsError)
    message = str(outcome.exception)
    assert message.startswith("--strategies: think@TOKENS needs")
    assert said in message
    assert len(message.splitlines()) == 1
    assert server.asked == []
    assert not out.exists()


def test_a_template_that_wants_the_users_turn_last_can_go_on(server, data):  # noqa: F811
    refused = (400, {"error": {"message": "the last turn must be the user's"}})
    server.probe = lambda request: continues(request) if request.get("continue_final_message") else refused
    server.trouble = thinks()
    assert rows_of(*run(server, data, "think@4"))["think 4", 1]["accuracy"] == 1.0


def test_other_strategies_need_no_server_that_goes_on(server, data):  # noqa: F811
    assert rows_of(*run(server, data, "plain"))["plain", 1]["accuracy"] == 1.0
    assert server.probes == []


def test_a_budget_for_a_model_that_does_not_think_is_warned_of(server, data):  # noqa: F811
    def cut(handler):
        handler.begin()
        handler.event({"content": "The sum is"}, "length")
        handler.event(None, None, {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7})

    server.trouble = lambda number, sample, request: cut
    outcome, out = run(server, data, "think@4")
    assert "does not think" in outcome.output
    assert rows_of(outcome, out)["think 4", 1]["tokens"] == 8
    server.trouble = thinks()
    assert "does not think" not in run(server, data, "think@5")[0].output


def test_a_budget_without_room_for_an_answer_is_refused(server, data):  # noqa: F811
    assert "think@50" in str(run(server, data, "think@50", "--max-new-tokens", 50)[0].exception)
    assert server.probes == server.asked == []


# bad servers: one line, what finished is kept, what failed counts


def half_json(handler):
    handler.begin()
    handler.event({"content": "."}, None)
    handler.wfile.write(b'data: {"choices": [{"del\n\n')


def closed(handler):
    handler.begin()
    handler.event({"content": "."}, None)
    handler.event({"content": "."}, None)


def no_choices(handler):
    handler.begin()
    handler.event(None, None, {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8})
    handler.wfile.write(b"data: [DONE]\n\n")


def slow(handler):
    handler.begin()
    handler.event({"content": "."}, None)
    time.sleep(8)


def error_in_stream(handler):
    handler.begin()
    handler.wfile.write(b'data: {"error": {"message": "out of memory"}}\n\n')


@pytest.mark.parametrize(
    ("trouble", "said", "paid"),
    [
        (lambda handler: handler.send(500, {}), "500", 0),
        (lambda handler: handler.send(503, {"error": {"message": "loading the model"}}), "loading the model", 0),
        (lambda handler: handler.send(429, {"error": {"message": "too many"}}), "too many", 0),
        (lambda handler: handler.connection.close(), "onnection", 0),
        (lambda handler: handler.send(200, reply("x")), "no choices", 0),  # not a stream
        (half_json, "broken JSON", 1),
        (closed, "ended before the response did", 2),
        (no_choices, "no choices", 5),
        (slow, "imed out", 1),
        (error_in_stream, "out of memory", 0),
    ],
)
def test_trouble_in_the_middle_keeps_what_finished(server, data, trouble, said, paid):  # noqa: F811
    server.trouble = lambda number, sample, request: trouble if number >= 2 else None
    outcome, out = run(server, data, "plain", *(("--timeout", 3) if trouble is slow else ()))
    assert isinstance(outcome.exception, SettingsError)
    message = str(outcome.exception)
    assert said in message
    assert "4 of 6" in message
    assert len(message.splitlines()) == 1
    assert not out.exists()
    assert sorted((line["seed"], line["text"], line["tokens"]) for line in stored(data)) == [
        (0, rf"..\boxed{{{number}}}", 3) for number in (0, 1)
    ]
    server.trouble = lambda number, sample, request: None
    server.asked.clear()
    row = rows_of(*run(server, data, "plain"))["plain", 1]
    assert len(server.asked) == 4
    assert row["accuracy"] == 1.0
    assert row["failed_tokens"] == pytest.approx(4 * paid / 6)
    assert row["tokens"] == pytest.approx(3 + 4 * paid / 6)


def test_without_usage_a_tokenizer_is_needed_and_counts_what_is_stored(server, data, tokenizer):  # noqa: F811
    server.usage = False
    outcome, out = run(server, data, "plain", "--concurrency", 1)
    assert "no usage; give --tokenizer" in str(outcome.exception)
    assert not out.exists()
    assert len(server.asked) == 1
    assert "--tokenizer" in str(run(server, data, "plain")[0].exception)
    assert len(server.asked) == 1
    row = rows_of(*run(server, data, "plain", "--tokenizer", tokenizer))["plain", 1]
    assert len(server.asked) == 6
    # The problems are 0 to 5, each a character; and the end of the sequence
    assert row["tokens"] == len(build_tokenizer(CHARACTERS)(r"..\boxed{0}", add_special_tokens=False)["input_ids"]) + 1


def test_a_model_that_is_not_there(server, data):  # noqa: F811
    outcome, _ = run(server, data, "plain", model="served-modle")
    assert f"did you mean '{MODEL}'" in str(outcome.exception)
    assert server.asked == []


@pytest.mark.parametrize(("status", "said"), [(400, "prompt is too long"), (422, "not processable")])
@pytest.mark.parametrize(("strategy", "samples"), [("plain", 1), ("majority@2", 2), ("early-stop@3", 2)])
def test_a_refused_row_is_named_and_the_others_are_kept(server, data, status, said, strategy, samples):  # noqa: F811
    """As in ``evaluate`` with a server. The second run asks only for what was refused."""

    def refuse(handler):
        handler.send(status, {"error": {"message": said}})

    server.trouble = lambda number, sample, request: refuse if number in (1, 4) else None
    first = strategy == "early-stop@3"  # draws one after the other, so its first sample is refused
    refusals = 2 * (1 if first else samples)
    for asked in (4 * samples + refusals, refusals):
        server.asked.clear()
        outcome, out = run(server, data, strategy, "--retries", 4)
        assert isinstance(outcome.exception, SettingsError)
        message = str(outcome.exception)
        assert len(message.splitlines()) == 1
        for part in ("2 of 6", said, "rows 1, 4 of the data", "'What is 1'", "leave them out", "--max-model-len"):
            assert part in message
        assert not out.exists()
        # Until the server has taken a usage in every piece, a refusal is tried once without it.
        assert asked <= len(server.asked) <= asked + refusals
        assert len(stored(data)) == 4 * samples
    assert len(server.asked) == 2 * refusals
    server.trouble = lambda number, sample, request: None
    assert all(row["accuracy"] == 1 for row in rows_of(*run(server, data, strategy)).values())


@pytest.mark.parametrize(("status", "said"), [(401, "wrong key"), (404, "no such model")])
def test_a_refusal_of_all_ends_the_run_at_once_and_keeps_what_was_paid(server, data, status, said):  # noqa: F811
    def refuse(handler):
        time.sleep(0.2)
        handler.send(status, {"error": {"message": said}})

    # Of the second problem, one sample streams until the other one is refused.
    server.plan = lambda number, sample: (rf"\boxed{{{number}}}", 3 if number == 0 else 1000)
    server.trouble = lambda number, sample, request: refuse if (number, sample) == (1, 1) else None
    outcome, out = run(server, data, "majority@2", "--concurrency", 2, "--retries", 4)
    assert isinstance(outcome.exception, SettingsError)
    assert said in str(outcome.exception)
    assert not out.exists()
    assert len(server.asked) == 4
    assert sorted(line["seed"] for line in stored(data)) == [0, 1]
    assert sum(line["tokens"] for line in stored(data, "failed")) > 0


def test_a_stream_that_breaks_is_tried_again(server, data):  # noqa: F811
    server.trouble = lambda number, sample, request: closed if number == 4 and request < 7 else None
    row = rows_of(*run(server, data, "plain", "--retries", 1, "--concurrency", 6))["plain", 1]
    assert len(server.asked) == 7
    assert (row["accuracy"], row["tokens"]) == (1.0, 3 + 2 / 6)
    assert row["failed_tokens"] == pytest.approx(2 / 6)


def test_the_siblings_of_a_broken_stream_are_kept(server, data):  # noqa: F811
    server.plan = lambda number, sample: (rf"\boxed{{{number}}}", 20)
    server.trouble = lambda number, sample, request: closed if (number, sample) == (3, 1) else None
    outcome, _ = run(server, data, "majority@4", "--limit", 4)
    assert "1 of 4" in str(outcome.exception)
    assert len(stored(data)) == 4 * 4 - 1
    server.trouble = lambda number, sample, request: None
    server.asked.clear()
    row = rows_of(*run(server, data, "majority@4", "--limit", 4))["majority", 4]
    assert [request["seed"] for request in server.asked] == [1]
    assert row["tokens"] == 4 * 20 + 2 / 4


def test_first_finish_needs_no_sample_that_breaks(server, data):  # noqa: F811
    server.plan = lambda number, sample: (rf"\boxed{{{number}}}", 20)
    server.trouble = lambda number, sample, request: closed if sample == 0 else None
    row = rows_of(*run(server, data, "first-finish@2", "--limit", 1))["first finish", 2]
    assert (row["accuracy"], row["tokens"], row["cancelled"]) == (1.0, 2 + 20, 0)


def test_the_cheapest_for_an_accuracy(server, data):  # noqa: F811
    outcome, out = run(server, data, "plain,majority@2", "--accuracy", 0.8)
    assert [row["tokens_over_plain"] for row in result_of(outcome, out)["rows"]] == [1.0, 2.0]
    assert "at least 80 % is plain: accuracy 100.0 %" in " ".join(outcome.output.split())
    assert "--accuracy" in str(run(server, data, "plain", "--accuracy", 80)[0].exception)


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
    server.asked.clear()
    rows = rows_of(*run(server, data, "majority@3,early-stop@3", *options))
    # What was sampled is counted again by the new rule; only early stop needs one more sample of each problem.
    assert {request["seed"] for request in server.asked} == {2}
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
    assert parse_plan("think@1024") == Plan("think 1,024", think=1024)
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
