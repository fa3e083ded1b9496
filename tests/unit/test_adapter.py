"""What the adapters of all frameworks share, without a framework."""

import dataclasses

import numpy as np
import pytest
import torch

from verl_efficiency.adapter.average import WeightAverage, moves
from verl_efficiency.adapter.metrics import reward_means
from verl_efficiency.adapter.rollouts import Step, complete, count_thinking, prompt_name, spread
from verl_efficiency.adapter.state import STARTS_AGAIN
from verl_efficiency.adapter.teacher import Teacher, token_weights
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import SettingsError


def completed(method, given, row=None):
    """Two groups of two, the second of them padding; and the columns that were asked for."""
    asked = []

    def rows(rollouts, paths):
        asked.extend(paths)
        return [row, None]

    step = Step(
        "--efficiency",
        rows,
        mask_BL=torch.tensor([[1, 0, 1, 1], [1, 1, 0, 0], [0] * 4, [0] * 4]),
        responses_B=tuple(torch.arange(length) for length in (4, 2, 0, 0)),
        feedback_B=("wrong", None, None, None),
        thinking_B=torch.tensor([2, 0, 0, 0]),
        prompt_tokens=lambda: torch.tensor([10, 10, 3, 3]),
    )
    rollouts = Rollouts.build(
        torch.tensor([1.0, 0.0, 0.0, 0.0]),
        torch.tensor([3, 2, 0, 0]),
        ["a", "a", "pad", "pad"],
        real_B=torch.tensor([True, True, False, False]),
    )
    settings = ESTIMATORS[method].build_settings(given, "--efficiency")
    return complete(rollouts, settings, ESTIMATORS[method].new_state(), step), asked


def test_only_what_the_settings_ask_for_is_read():
    rollouts, asked = completed("kimi", {})
    assert asked == []
    assert rollouts.thinking_B is rollouts.responses_B is rollouts.prompt_ids_G is None


@pytest.mark.parametrize(
    ("cost", "costs"),
    [
        ("thinking", [2, 0]),
        ("answer", [1, 2]),
        ("turns", [2, 1]),
        ("context", [11, 10]),
        ("generated+10*turns", [23, 12]),
    ],
)
def test_costs_are_counted(cost, costs):
    rollouts, _ = completed("kimi", {"cost": cost})
    assert rollouts.lengths_B.tolist()[:2] == costs
    assert rollouts.generated_B.tolist() == [3, 2, 0, 0]


def test_columns_of_the_data_set():
    row = {"extra_info": {"difficulty": 0.25, "name": 7, "chat": [{"role": "user", "content": "?"}]}, "raw_prompt": "?"}
    budget = {"difficulty": "data", "difficulty_column": "extra_info.difficulty"}
    rollouts, asked = completed("token_budget", budget, row)
    assert asked == ["extra_info.difficulty"]
    assert rollouts.difficulty_G.tolist() == [0.25, 0.5]  # a group of padding is in the middle
    for given, name in (
        ({}, prompt_name("?")),
        ({"prompt_column": "extra_info.name"}, "7"),
        ({"prompt_column": "extra_info.chat"}, prompt_name(row["extra_info"]["chat"])),
    ):
        assert completed("hapo", given, row)[0].prompt_ids_G == (name, "")


@pytest.mark.parametrize("reference", ["the solution", "", None])
def test_a_prompt_may_have_no_reference(reference):
    given = {"distil": True, "reference_column": "extra_info.solution"}
    rollouts, _ = completed("variance_routing", given, {"extra_info": {"solution": reference}})
    assert rollouts.references_G == (reference or None, None)


@pytest.mark.parametrize("value", [{}, {"difficulty": None}])
def test_an_empty_column_is_named_as_the_user_wrote_it(value):
    given = {"difficulty": "data", "difficulty_column": "extra_info.difficulty"}
    with pytest.raises(SettingsError, match=r"^--efficiency\.difficulty_column: .*extra_info\.difficulty"):
        completed("token_budget", given, {"extra_info": value})


def test_responses_and_feedback_are_handed_to_the_methods_that_read_them():
    assert [len(ids) for ids in completed("t_spmo", {})[0].responses_B] == [4, 2, 0, 0]
    rollouts, _ = completed("sample_routing", {})
    assert (rollouts.responses_B, rollouts.feedback_B) == (None, ("wrong", None, None, None))
    assert completed("sample_routing", {"include_environment_feedback": False})[0].feedback_B is None


def test_prompts_have_other_names_where_their_text_or_a_role_differs():
    texts = ["1+1?", "1+2?"]
    chats = [[{"role": role, "content": text}] for role in ("user", "system") for text in texts]
    assert len({prompt_name(prompt) for prompt in [*texts, *chats]}) == 6


def test_thinking_may_begin_in_the_prompt():
    pieces = ["<think>", "</think>", "a"]

    class Tokenizer:
        def get_vocab(self):
            return {piece: number for number, piece in enumerate(pieces)}

        def decode(self, ids):
            return "".join(pieces[number] for number in ids)

    opened, plain = torch.tensor([2, 0]), torch.tensor([2])
    responses = [torch.tensor([2, 2, 1, 2]), torch.tensor([2, 2]), torch.tensor([0, 2, 1])]
    masks = [torch.tensor([1, 0, 1, 1]), torch.ones(2), torch.ones(3)]  # the second token of the first is a tool's
    assert count_thinking(Tokenizer(), [opened, plain, plain], responses, masks).tolist() == [2, 0, 3]


def test_advantages_are_spread_over_the_tokens_of_the_policy():
    mask = torch.tensor([[1, 0, 1], [1, 1, 0]])
    plain = Outcome(torch.tensor([2.0, -1.0], dtype=torch.float64), {})
    assert spread(plain, mask).tolist() == [[2.0, 0.0, 2.0], [-1.0, -1.0, 0.0]]
    assert spread(plain, mask).dtype == torch.float32
    weighted = dataclasses.replace(plain, token_weights=lambda m: m * torch.tensor([0.5, 1.0, 4.0]))
    assert spread(weighted, mask).tolist() == [[1.0, 0.0, 8.0], [-0.5, -1.0, 0.0]]
    assert mask.tolist() == [[1, 0, 1], [1, 1, 0]]  # the input is left alone
    copy = mask.float()
    assert spread(plain, copy).tolist() == spread(plain, mask).tolist()
    assert copy.tolist() == mask.tolist()
    taken = spread(plain, copy, overwrite=True)
    assert taken is copy
    assert taken.tolist() == [[2.0, 0.0, 2.0], [-1.0, -1.0, 0.0]]


class Plain(WeightAverage):
    def __init__(self, weights, rate):
        self.now = weights
        super().__init__({name: value.float() for name, value in weights.items()}, rate)

    def weights(self):
        return iter(self.now.items())

    def file(self, folder):
        return folder / "teacher.pt"


def test_the_average_of_half_precision_weights_is_exact():
    average = Plain({"w": torch.zeros(2, dtype=torch.bfloat16)}, rate=0.0625)
    average.now = {"w": torch.full((2,), 1.0, dtype=torch.bfloat16)}
    average.update()
    average.update()
    assert average.average["w"].tolist() == [0.12109375] * 2  # 1 − (15/16)², which bfloat16 cannot hold
    average.restart()
    assert average.average["w"].tolist() == [1.0, 1.0]


def test_the_average_is_saved_and_restored(tmp_path):
    average = Plain({"w": torch.tensor([1.0])}, rate=0.5)
    with pytest.raises(SettingsError, match=f"average of the self-teacher.* `touch {tmp_path / STARTS_AGAIN}`"):
        average.load(tmp_path)
    (tmp_path / STARTS_AGAIN).touch()
    assert not average.load(tmp_path)
    assert average.save(tmp_path) == average.file(tmp_path)
    again = Plain({"w": torch.tensor([5.0])}, rate=0.5)
    assert again.load(tmp_path)
    assert again.average["w"].tolist() == [1.0]
    with pytest.raises(KeyError):
        Plain({"other": torch.tensor([5.0])}, rate=0.5).load(tmp_path)


class Noting(Teacher):
    """Notes what the loss is given; its passes answer with what the test says."""

    def __init__(self, name, entropy=None, logps=None, **given):
        super().__init__(ESTIMATORS[name], ESTIMATORS[name].build_settings(given, "--efficiency"), self)
        self.entropy, self.logps, self.noted = entropy, logps, {}

    def apply_chat_template(self, conversations, **_):
        return [[len(messages[-1]["content"])] * 3 for messages in conversations]

    def batch_decode(self, responses, skip_special_tokens):
        assert skip_special_tokens
        return [" ".join(map(str, ids)) for ids in responses]

    def response(self, row):
        return torch.arange(row + 1)

    def messages(self, row):
        return [{"role": "user", "content": f"question {row}"}]

    def score(self, plan, prompts):
        self.noted["prompts"] = prompts
        return self.entropy

    def log_probs(self, plan):
        return self.logps

    def give_targets(self, plan, weights):
        self.noted["weights"] = [part.tolist() for part in weights]

    def give_advantages(self, plan, values):
        self.noted["advantages"] = [part.tolist() for part in values]

    def skip(self, rows):
        self.noted["skipped"] = rows


def rollouts_of(*groups):
    """Scores by group; lengths are 1, 2, …"""
    scores = [score for group in groups for score in group]
    labels = [number for number, group in enumerate(groups) for _ in group]
    return Rollouts.build(torch.tensor(scores), torch.arange(1, len(scores) + 1), labels)


def test_a_plan_names_who_is_taught_and_who_is_skipped():
    groups = [1.0, 0.0, 0.0], [0.0, 0.0]
    mixed = Noting("sample_routing").plan(rollouts_of(*groups))
    assert (mixed.taught, mixed.tokens, mixed.skipped) == ([1, 2], [2, 3], [])
    alone = Noting("self_distillation").plan(rollouts_of(*groups))
    assert (alone.taught, alone.skipped) == ([1, 2], [0, 3, 4])
    nobody = Noting("self_distillation").plan(rollouts_of([0.0, 0.0]))
    assert (nobody.taught, nobody.skipped) == ([], [])  # a batch without tokens has no loss
    empty = rollouts_of(*groups)
    empty = dataclasses.replace(empty, lengths_B=torch.tensor([1, 0, 3, 4, 5]))
    assert Noting("sample_routing").plan(empty).taught == [2]


def lesson_of(teacher, rollouts, state=None):
    plan = teacher.plan(rollouts)
    metrics = teacher.lesson(plan, lambda: teacher.prompts(plan), state)
    assert metrics.pop("teacher_prompt_wait_s", 0.0) >= 0
    return metrics


def test_weights_by_entropy_are_split_by_rollout():
    ln2, ln4 = float(np.log(2)), float(np.log(4))
    entropy = [torch.tensor([0.0, ln2]), torch.tensor([ln2, ln4, ln4])]  # weights 1, ½ | ½, ¼, ¼, with mean ½
    teacher = Noting("sample_routing", entropy, entropy_beta=1.0)
    metrics = lesson_of(teacher, rollouts_of([1.0, 0.0, 0.0]))
    assert teacher.noted["weights"] == [pytest.approx([2.0, 1.0]), pytest.approx([1.0, 0.5, 0.5])]
    assert set(teacher.noted) == {"prompts", "weights"}
    assert metrics == {
        "teacher_rows": 2.0,
        "teacher_prompt_tokens": 3.0,
        "teacher_entropy": pytest.approx((2 * ln2 + 2 * ln4) / 5),
        "distil_token_share": pytest.approx(5 / 6),
        "weight_largest": pytest.approx(2.0),
        "weight_smallest": pytest.approx(0.5),
        "feedback_share": 0.0,
    }


def test_sampled_tokens_become_advantages():
    teacher_logps = [torch.tensor([-1.0, -3.0]), torch.tensor([-2.0, 0.0, -1.0])]
    old = [torch.tensor([-2.0, -2.5]), torch.tensor([-2.0, -1.0, 0.0])]
    sampled = {"full_logit_distillation": False, "alpha": 1.0, "entropy_beta": 0.0}
    teacher = Noting("self_distillation", None, (teacher_logps, old), **sampled)
    metrics = lesson_of(teacher, rollouts_of([1.0, 0.0, 0.0]))
    assert teacher.noted["advantages"] == [[1.0, -0.5], [0.0, 1.0, -1.0]]
    assert teacher.noted["skipped"] == [0]
    assert metrics["sampled_kl"] == pytest.approx(-0.5 / 5)
    assert "teacher_entropy" not in metrics


def test_shortest_correct_responses_are_stored_as_text():
    teacher = Noting("variance_routing", distil=True, store_responses=True)
    state = teacher.method.new_state()
    rollouts = dataclasses.replace(rollouts_of([0.0, 1.0, 1.0]), prompt_ids_G=("sum",))
    metrics = lesson_of(teacher, rollouts, state)
    assert state.texts == {"sum": "0 1"}
    assert metrics == {"teacher_rows": 0.0, "stored_responses": 1.0, "responses_not_stored": 0.0}


@pytest.mark.parametrize(("clip", "expected"), [(2.0, [1.5, 6.0]), (None, [3.0, 3.0])])
def test_the_weight_of_a_token_is_clipped_and_has_no_gradient(clip, expected):
    log_probs = torch.tensor([0.5, 8.0]).log().requires_grad_()
    settings = Noting("sample_routing", is_clip=clip).settings
    weights = token_weights(torch.full((2,), 3.0), log_probs, torch.zeros(2), settings)
    assert weights.tolist() == pytest.approx(expected)
    assert not weights.requires_grad


@pytest.mark.parametrize(
    ("given", "steps"),
    [({}, [1, 2, 3, 4]), ({"teacher_refresh_steps": 2}, [2, 4]), ({"teacher_regularization": "none"}, [])],
)
def test_the_average_moves_after_these_steps(given, steps):
    settings = Noting("sample_routing", **given).settings
    assert [step for step in range(1, 5) if moves(settings, step)] == steps


def test_every_number_of_the_reward_is_logged():
    infos = [
        {"acc": True, "format": 0.5, "tokens": np.int64(10), "mean": np.float32(0.25), "text": "x", "none": None},
        {"acc": False, "format": 1, "tokens": np.int64(30), "mean": np.float32(0.75), "text": "y", "none": None},
    ]
    assert reward_means(infos) == {
        "reward/acc": 0.5,
        "reward/format": 0.75,
        "reward/mean": 0.5,
        "reward/tokens": 20.0,
    }
    assert reward_means([{}, {"text": "x"}]) == {}


def test_a_component_that_some_rollouts_lack_is_a_mean_of_those_that_have_it():
    infos = [{"acc": 1.0, "bonus": 0.5}, {"acc": 0.0}, {"acc": 0.0, "bonus": 1.0}, {"acc": 1.0, "bonus": None}]
    assert reward_means(infos) == {"reward/acc": 0.5, "reward/bonus": 0.75, "reward/bonus_given": 0.5}
