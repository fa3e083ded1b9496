"""A rollout is a session, which may have several outputs."""

from dataclasses import replace

import pytest
import torch

from verl_efficiency.adapter.rollouts import Sessions, Step, build_rollouts, complete, spread
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.outcome import Outcome

# Rows in the order of a balanced batch: session x has outputs 0, 1, 2, session y has 0 and 1, session z is alone.
NAMES, OUTPUTS = ["x", "y", "x", "z", "y", "x"], [2, 0, 0, 0, 1, 1]
MASK = torch.tensor([[1, 0, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]])
LENGTHS = MASK.sum(1)  # 2, 4, 2, 1, 0, 3
SCORES = torch.tensor([1.0, 0.25, 9.0, 0.0, 0.5, 9.0])  # the last output of x is row 0, of y row 4


@pytest.fixture
def sessions():
    return Sessions.of(NAMES, OUTPUTS)


def completed(method, given, sessions, **known):
    settings = ESTIMATORS[method].build_settings(given, "here")
    step = Step("here", lambda rollouts, paths: [], MASK, sessions=sessions, **known)
    return complete(build_rollouts(SCORES, LENGTHS, list("aaaaaa"), settings, sessions), settings, None, step)


def test_length_is_the_sum_and_score_that_of_the_last_output(sessions):
    rollouts = completed("kimi", {}, sessions)
    assert rollouts.lengths_B.tolist() == [7, 4, 1]
    assert rollouts.scores_B.tolist() == [1.0, 0.5, 0.0]
    assert rollouts.correct_B.tolist() == [True, True, False]
    assert rollouts.groups_B.tolist() == [0, 0, 0]


def test_sessions_of_one_output_are_rows():
    assert Sessions.of(["x", "y"], [0, 0]) is None


def test_truncation_is_that_of_the_last_output(sessions):
    rollouts = completed("truncation", {"max_response_length": 2}, sessions)
    assert rollouts.reached(2).tolist() == [True, False, False]
    assert replace(rollouts, final_B=None).reached(2).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("cost", "costs"),
    [
        ("turns", [4, 1, 1]),  # x: one turn, one turn, two turns; two runs of ones that touch are two turns
        ("context", [10 + 30 + 60 + 1 + 1, 20 + 50, 40]),  # every output has its own prompt, tool tokens come on top
        ("thinking", [1 + 3 + 6, 2 + 5, 4]),
    ],
)
def test_costs_are_summed_over_the_outputs(sessions, cost, costs):
    rollouts = completed(
        *("kimi", {"cost": cost}, sessions),
        thinking_B=torch.arange(1, 7),
        prompt_tokens=lambda: torch.tensor([10, 20, 30, 40, 50, 60]),
    )
    assert rollouts.lengths_B.tolist() == costs
    assert rollouts.generated_B.tolist() == [7, 4, 1]


def test_responses_are_joined_in_the_order_of_the_outputs(sessions):
    rows = [torch.tensor([row] * length) for row, length in enumerate(LENGTHS.tolist())]
    assert [ids.tolist() for ids in sessions.joined(rows)] == [[2, 2, 5, 5, 5, 0, 0], [1] * 4, [3]]


def test_every_output_gets_the_advantage_of_its_session(sessions):
    outcome = Outcome(torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64), {})
    expected = torch.tensor([0.5, -1.0, 0.5, 2.0, -1.0, 0.5])[:, None] * MASK
    assert torch.equal(spread(outcome, MASK, sessions), expected)


def test_token_weights_see_a_session_as_one_response(sessions):
    """The weight is the token's place in its session: the outputs of x have 2, 3 and 2 tokens."""
    outcome = Outcome(torch.tensor([1.0, 10.0, 100.0]), {}, lambda mask: (mask.cumsum(1) * mask).float())
    assert spread(outcome, MASK, sessions).tolist() == [
        [6, 0, 7, 0],
        [10, 20, 30, 40],
        [1, 2, 0, 0],
        [100, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 3, 4, 5],
    ]


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("t_spmo", {}),
        ("sample_routing", {}),
        ("self_distillation", {}),
        ("concise_teacher", {}),
        ("variance_routing", {"distil": True}),
    ],
)
def test_methods_that_take_one_output_say_so(sessions, method, given):
    settings = ESTIMATORS[method].build_settings(given, "here")
    assert settings.single_output
    with pytest.raises(RuntimeError, match="several outputs for one session"):
        build_rollouts(SCORES, LENGTHS, list("aaaaaa"), settings, sessions)


@pytest.mark.parametrize("method", sorted(set(ESTIMATORS) - {"custom"}))
def test_all_other_methods_take_sessions(sessions, method):
    """As many advantages as sessions, and the same ones as for three plain rollouts of these lengths and scores."""
    given = {"cosine": {"margin": 0}}.get(method, {})
    row = ESTIMATORS[method]
    if "max_response_length" in row.settings_class().__dataclass_fields__ and row.family == "shaping":
        given = {**given, "max_response_length": 20}
    settings = row.build_settings(given, "here")
    if settings.single_output or settings.names_prompts:
        return
    thinking_B = torch.arange(6) // 3
    rollouts = completed(method, given, sessions, thinking_B=thinking_B, prompt_tokens=lambda: torch.full((6,), 9))
    plain = replace(rollouts, final_B=None)
    ours, expected = (row.function()(one, settings, row.new_state()).advantages_B for one in (rollouts, plain))
    assert torch.equal(ours, expected)
    assert ours.shape == (3,)
