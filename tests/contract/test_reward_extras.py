"""A reward that raises before its first success, in verl's V0 trainer: no sample and no key of the batch is lost.

verl's own code puts the samples of an agent loop together, and the agent loops to a batch.
"""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("verl")

from verl import DataProto
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.trainer import main_ppo
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.utils.import_utils import load_extern_object

from tests.rewards_of_ours import SETTINGS
from verl_efficiency import rewards
from verl_efficiency.methods.catalog import REWARDS
from verl_efficiency.settings import SettingsError
from verl_efficiency.verl.checks.extras import extras_of
from verl_efficiency.verl.reward_manager import EfficiencyRewardManager

OWN = """
def broken(response):
    if response == "broken":
        raise KeyError(response)

def number(data_source, solution_str, ground_truth, extra_info):
    broken(solution_str)
    return 0.5

def several(data_source, solution_str, ground_truth, extra_info):
    broken(solution_str)
    return {"score": 0.5, "steps": 3, "comment": "well"}

def sometimes_more(data_source, solution_str, ground_truth, extra_info):
    broken(solution_str)
    return {"score": 0.5} | ({"steps": 3} if solution_str == "long" else {})

def declared_number(**given):
    return number(**given)

def declared_several(**given):
    return several(**given)

declared_number.extras = {"acc": 0.0}
declared_several.extras = {"score": 0.0, "comment": "", "steps": -1}
"""


@pytest.fixture
def manager(compose, tmp_path, monkeypatch):
    """The reward manager of a worker, for a function of ``OWN``; a response is handed to it as a text."""
    (tmp_path / "own.py").write_text(OWN)

    async def naive(self, response):
        result = self.compute_score(data_source="sums", solution_str=response, ground_truth="4", extra_info={})
        extras = result if isinstance(result, dict) else {"acc": result}
        return {"reward_score": extras.get("score", result), "reward_extra_info": dict(extras)}

    monkeypatch.setattr(NaiveRewardManager, "run_single", naive)
    monkeypatch.setattr(EfficiencyRewardManager, "_with_cost", lambda self, sample: sample[0])

    def made(name, *overrides):
        config = compose(
            "reward.reward_manager.name=efficiency",
            f"reward.custom_reward_function.path={tmp_path / 'own.py'}",
            f"reward.custom_reward_function.name={name}",
            *overrides,
        )
        return EfficiencyRewardManager(config, tokenizer=None, compute_score=get_custom_reward_fn(config))

    return made


class Response(list):
    """A batch of one, whose text is its only element."""

    non_tensor_batch: dict = {}  # noqa: RUF012

    def __getitem__(self, item):
        return self if isinstance(item, slice) else super().__getitem__(item)


def score(manager, *responses):
    return [asyncio.run(manager.run_single(Response([response]))) for response in responses]


def batch(*loops):
    """What verl makes of the results of several agent loops: the extras of the whole batch."""
    parts = []
    for results in loops:
        one = torch.ones(1, 1, dtype=torch.int64)
        inputs = [
            SimpleNamespace(
                **dict.fromkeys(("prompt_ids", "response_ids", "response_mask", "input_ids", "position_ids"), one),
                **dict.fromkeys(
                    ("response_logprobs", "routed_experts", "teacher_logprobs", "teacher_ids", "multi_modal_inputs")
                ),
                attention_mask=torch.ones(1, 2, dtype=torch.int64),
                reward_score=result["reward_score"],
                num_turns=2,
                extra_fields={"reward_extra_info": result["reward_extra_info"]},
                metrics=SimpleNamespace(model_dump=dict),
            )
            for result in results
        ]
        parts.append(AgentLoopWorker._postprocess(SimpleNamespace(reward_loop_worker_handles=[0]), inputs))
    merged = DataProto.concat(parts)
    return {key: merged.non_tensor_batch[key].tolist() for key in merged.meta_info["reward_extra_keys"]}


V1 = hasattr(main_ppo, "TaskRunnerV1")
V0 = ("trainer.use_v1=False",) if V1 else ()  # verl 0.8 has no other
needs_v1 = pytest.mark.skipif(not V1, reason="verl 0.8 has no V1 trainer")


def test_a_declared_reward_that_raises_first_loses_no_sample_and_no_key(manager):
    first, second = manager("declared_several", *V0), manager("declared_several", *V0)
    assert batch(score(first, "broken", "fine"), score(second, "broken", "broken"), score(second, "fine")) == {
        "score": [0.0, 0.5, 0.0, 0.0, 0.5],
        "steps": [-1, 3, -1, -1, 3],
        "comment": ["", "well", "", "", "well"],
        "reward_error": [1.0, 0.0, 1.0, 1.0, 0.0],
    }


def test_a_declared_reward_that_is_a_number(manager):
    one = manager("declared_number", *V0)
    assert batch(score(one, "broken"), score(one, "fine")) == {"acc": [0.0, 0.5], "reward_error": [1.0, 0.0]}


def test_after_the_first_success_the_keys_are_known_anyway(manager):
    one = manager("several", *V0)
    results = score(one, "fine", "broken")
    assert batch(results[:1], results[1:])["steps"] == [3, 0.0]


def test_an_undeclared_reward_that_raises_first_ends_a_v0_run_and_says_what_to_declare(manager, caplog):
    one = manager("several", *V0)
    with pytest.raises(KeyError, match="broken"):
        score(one, "broken")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "verl_efficiency"]
    assert "several.extras = " in line


@needs_v1
def test_the_v1_trainer_keeps_its_sample(manager):
    (result,) = score(manager("several"), "broken")
    assert result == {"reward_score": 0.0, "reward_extra_info": {"acc": 0.0, "reward_error": 1.0, "score": 0.0}}


@needs_v1
def test_it_has_what_the_filter_of_groups_reads(manager):
    overrides = ("algorithm.filter_groups.enable=True", "algorithm.filter_groups.metric=steps")
    (result,) = score(manager("several", *overrides), "broken")
    assert result["reward_extra_info"] == {"acc": 0.0, "reward_error": 1.0, "score": 0.0, "steps": 0.0}


def test_a_reward_with_a_key_for_some_samples_only_is_filled_up_and_said_once(manager, caplog):
    one = manager("sometimes_more", *V0)
    results = score(one, "short", "long", "short", "long")
    assert [result["reward_extra_info"].get("steps") for result in results] == [None, 3, 0.0, 3]
    (line,) = [record.getMessage() for record in caplog.records if record.name == "verl_efficiency"]
    assert "steps" in line
    assert "sometimes_more.extras = " in line


@pytest.mark.parametrize("name", REWARDS)
def test_what_our_rewards_say_that_they_return_is_found_behind_verls_wrapper(name):
    settings = SETTINGS.get(name, {})
    known = extras_of(SimpleNamespace(args=(REWARDS[name].function(), settings)))
    assert known == dict(REWARDS[name].build_settings(settings, "").extras)


def test_what_our_reward_returns_is_known_where_verl_loads_it_by_its_file():
    loaded = load_extern_object(str(Path(rewards.__file__).parent / "accuracy.py"), "accuracy")
    assert loaded.__module__ != "verl_efficiency.rewards.accuracy"
    assert extras_of(SimpleNamespace(args=(loaded, {}))) == dict(REWARDS["accuracy"].build_settings({}, "").extras)


def test_a_declaration_that_is_not_a_mapping_is_refused():
    def mine():
        return 0.0

    mine.extras = ["score"]
    with pytest.raises(SettingsError, match=r"mine\.extras"):
        extras_of(mine)


def test_packed_rows_have_the_same_extras():
    returned = REWARDS["batched_accuracy"].function()("sums", "\\boxed{4}", '["4", "5"]', {"n": 2})
    assert set(returned) == set(REWARDS["batched_accuracy"].build_settings({}, "").extras)


def test_a_term_of_ones_own_declares_its_extras(monkeypatch):
    from tests.contract import test_reward_extras as here

    monkeypatch.setattr(here, "term", lambda *_: {"score": 1.0, "words": 3.0}, raising=False)
    here.term.extras = {"words": 0.0}
    terms = [{"name": "accuracy", "weight": 1}, {"name": f"pkg://{__name__}:term", "weight": 1, "label": "mine"}]
    known = REWARDS["composition"].build_settings({"terms": terms}, "").extras
    assert {"score", "acc", "words", "term_accuracy", "term_mine"} <= set(known)
