"""Our estimators at verl's real call sites give what the plain loops of the reference give."""

import pytest

pytest.importorskip("verl")

import dataclasses
import random
import statistics
from types import SimpleNamespace

import numpy as np
import torch
import verl
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.config import AlgoConfig
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.ray_trainer import compute_advantage

from tests.unit import reference
from tests.unit.reference import Row
from tests.unit.shaping import formulas
from tests.unit.test_rollouts import build
from tests.unit.test_token_budget import random_rows
from verl_efficiency.methods.advantages import group_advantage
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.routing.variance_routing import VarianceRoutingSettings
from verl_efficiency.methods.shaping.hapo import HapoSettings
from verl_efficiency.methods.shaping.kimi import KimiSettings
from verl_efficiency.methods.shaping.pass_rate import PassRateSettings
from verl_efficiency.methods.shaping.toggle import ToggleSettings
from verl_efficiency.methods.shaping.token_budget import TokenBudgetSettings
from verl_efficiency.rewards import composition
from verl_efficiency.verl import run, start_up

FIXED = {"b_min": 20.0, "b_max": 100.0}
FLOAT32 = 2e-6
WEIGHTS = (0.729, 0.081, 0.09, 0.1)  # of four steps in an average with 0.9 of the past


@pytest.fixture(autouse=True)
def _fresh_state():
    run.reset()


def for_single(data, keys, **options):
    return compute_advantage(data, **options)


def for_trajectories(data, keys, **options):
    utils = pytest.importorskip("verl.trainer.ppo.v1.utils", reason="verl 0.8 has no V1 trainer of this name")
    return utils.compute_advantage_for_multi_trajectories(data, keys, **options)


call_sites = pytest.mark.parametrize("call", [for_single, for_trajectories])


def algorithm(name, *, norm_adv_by_std_in_grpo=True, **efficiency):
    """The ``algorithm`` node as the trainer hands it over."""
    node = {"adv_estimator": name, "norm_adv_by_std_in_grpo": norm_adv_by_std_in_grpo, "efficiency": efficiency}
    return OmegaConf.create(node)


def batch(rows, *, mask_dtype=torch.int64):
    """Rows as verl holds them: the score at the last response token, a mask, one uid per prompt."""
    width = max(2, *(row.length for row in rows)) + 1
    rewards, mask = torch.zeros(len(rows), width), torch.zeros(len(rows), width, dtype=mask_dtype)
    for number, row in enumerate(rows):
        mask[number, : row.length] = 1
        rewards[number, max(row.length, 1) - 1] = row.score
    uids = np.array([f"pad{row.group}" if not row.real else row.group for row in rows], dtype=object)
    data = {"token_level_rewards": rewards, "response_mask": mask}
    return DataProto.from_dict(tensors=data, non_tensors={"uid": uids})


def as_float32(rows):
    return [dataclasses.replace(row, score=float(torch.tensor(row.score))) for row in rows]


def keys_of(rows):
    return [f"{row.group}_{number}_0" for number, row in enumerate(rows)]


def advantages_of(data):
    """One number per rollout, after checking that every response token carries it and no other token does."""
    advantages, mask = data.batch["advantages"], data.batch["response_mask"].bool()
    assert advantages.dtype == torch.float32
    assert torch.equal(data.batch["returns"], advantages)
    assert (advantages[~mask] == 0).all()
    first = mask.long().argmax(dim=-1, keepdim=True)
    assert torch.equal(advantages, advantages.gather(1, first) * mask)
    return advantages.gather(1, first).squeeze(1).tolist()


def without_empty(expected, rows):
    """An empty response has no token that could carry its advantage."""
    return [value if row.length else 0.0 for value, row in zip(expected, rows, strict=True)]


@call_sites
@pytest.mark.parametrize(
    ("name", "mask_dtype"),
    [
        ("token_budget", torch.int64),
        ("token_budget", torch.float32),
        ("token_budget", torch.bool),
        ("efficiency.token_budget", torch.int64),
    ],
)
def test_token_budget(call, name, mask_dtype):
    rng, expected_state = random.Random(1), {}
    for _ in range(4):
        rows = as_float32(random_rows(rng))
        data = call(
            batch(rows, mask_dtype=mask_dtype), keys_of(rows), adv_estimator=name, config=algorithm(name, penalty=0.5)
        )
        expected, _ = reference.token_budget(rows, TokenBudgetSettings(penalty=0.5), expected_state)
        assert advantages_of(data) == pytest.approx(without_empty(expected, rows), abs=FLOAT32)
    assert vars(run.state_of(ESTIMATORS["token_budget"])) == {
        "low": pytest.approx(expected_state["low"]),
        "high": pytest.approx(expected_state["high"]),
        "solve_rates": {},
        "accuracy": pytest.approx(sum(w * a for w, a in zip(WEIGHTS, expected_state["accuracies"], strict=True))),
        "accuracy_variance": pytest.approx(
            sum(w * w * v for w, v in zip(WEIGHTS, expected_state["variances"], strict=True))
        ),
        "best_accuracy": pytest.approx(expected_state["best"]),
    }


@call_sites
@pytest.mark.parametrize("seed", range(6))
def test_token_budget_with_settings(call, seed):
    rng = random.Random(seed)
    written = {
        **FIXED,
        "combine": rng.choice(["shaped_reward", "decoupled"]),
        "advantage": rng.choice(["grpo", "dr_grpo", "rloo"]),
        "margin": rng.choice([0.0, 0.2]),
        "gate_solve_rate": rng.choice([0.0, 0.5]),
        "penalty": rng.choice([0.3, 2.0]),
    }
    rows = as_float32(random_rows(rng))
    config = algorithm("token_budget", **written)
    data = call(batch(rows), keys_of(rows), adv_estimator="token_budget", config=config)
    expected, _ = reference.token_budget(rows, TokenBudgetSettings(**written), {})
    assert advantages_of(data) == pytest.approx(without_empty(expected, rows), abs=FLOAT32)


@call_sites
@pytest.mark.parametrize("name", ["variance_routing", "efficiency.variance_routing"])
def test_variance_routing(call, name):
    for seed in range(4):
        rows = as_float32(random_rows(random.Random(seed)))
        config = algorithm(name, reference_weight=0.5, signal="correctness")
        data = call(batch(rows), keys_of(rows), adv_estimator=name, config=config)
        settings = VarianceRoutingSettings(reference_weight=0.5, signal="correctness")
        expected, _ = reference.variance_routing(rows, settings)
        assert advantages_of(data) == pytest.approx(without_empty(expected, rows), abs=FLOAT32)


def test_tokens_of_a_tool_are_not_counted_and_carry_nothing():
    # 30 positions, of which the tool wrote 10: 20 generated tokens are just within the budget, 21 are not
    rewards, mask = torch.zeros(3, 31), torch.ones(3, 31, dtype=torch.int64)
    mask[:, 5:15] = 0
    mask[0, 30:] = mask[2, 3:] = 0
    rewards[0, 29] = rewards[1, 30] = 1.0
    uids = np.array(["a"] * 3, dtype=object)
    data = DataProto.from_dict(
        tensors={"token_level_rewards": rewards, "response_mask": mask}, non_tensors={"uid": uids}
    )
    config = algorithm("token_budget", b_min=20, b_max=20, penalty=1.0)
    compute_advantage(data, adv_estimator="token_budget", config=config)
    # overrun 1/20: length terms 0 and −0.05, centred ±0.025, of which half counts; accuracy ⅓, ⅓, −⅔
    expected = [1 / 3 + 0.0125, 1 / 3 - 0.0125, -2 / 3]
    assert data.batch["advantages"][:, 0].tolist() == pytest.approx(expected)
    assert (data.batch["advantages"][:, 5:15] == 0).all()


def test_turns_are_counted_from_the_mask():
    """Three right answers of 4 tokens, in one, two and three turns: λ is ½, 0 and −½, so rewards are 1.2, 1.0 and 0.8.

    A weight of 0.6 on the authors' scale, 1 to −0.5, is one of 0.4 at scores of 1 and 0.
    """
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 0, 1, 1, 0], [1, 0, 1, 0, 1, 1]])
    data = DataProto.from_dict(
        tensors={"token_level_rewards": torch.eye(3, 6), "response_mask": mask},
        non_tensors={"uid": np.array(["a"] * 3, dtype=object)},
    )
    for cost, expected in {"turns": [0.2, 0.0, -0.2], "generated": [0.0, 0.0, 0.0]}.items():
        config = algorithm("kimi", cost=cost, weight=0.6, advantage="dr_grpo")
        compute_advantage(data, adv_estimator="kimi", config=config)
        assert data.batch["advantages"][:, 0].tolist() == pytest.approx(expected, abs=FLOAT32)


@pytest.mark.parametrize("method", ["t_spmo", "sample_routing"])
def test_what_only_our_trainer_hands_over_is_refused_without_it(method):
    with pytest.raises(RuntimeError, match=rf"{method} needs trainer\.v1\.trainer_mode=efficiency_sync"):
        compute_advantage(batch([Row(1.0, 6, "a")]), adv_estimator=method, config=algorithm(method))


def test_thinking_is_counted_by_our_trainer_or_refused(monkeypatch):
    rows = [Row(1.0, 6, "a"), Row(1.0, 9, "a")]
    config = algorithm("kimi", cost="thinking", weight=0.6, advantage="dr_grpo")
    with pytest.raises(RuntimeError, match="efficiency_sync"):
        compute_advantage(batch(rows), adv_estimator="kimi", config=config)
    monkeypatch.setattr(run, "_step", run.step(thinking_B=torch.tensor([5, 2])))
    data = compute_advantage(batch(rows), adv_estimator="kimi", config=config)
    assert advantages_of(data) == pytest.approx([-0.2, 0.2], abs=FLOAT32)


def test_without_settings_and_with_verls_dataclass():
    rows = [Row(1.0, 3, "a"), Row(1.0, 9, "a"), Row(0.0, 2, "a")]
    expected, _ = reference.token_budget(rows, TokenBudgetSettings(), {})
    for config in (None, AlgoConfig(adv_estimator="token_budget"), OmegaConf.create({"adv_estimator": "token_budget"})):
        run.reset()
        data = compute_advantage(batch(rows), adv_estimator="token_budget", config=config)
        assert advantages_of(data) == pytest.approx(expected, abs=FLOAT32)


def test_verls_switch_for_the_standard_deviation_counts():
    rows = [Row(1.0, 3, "a"), Row(1.0, 9, "a"), Row(0.0, 2, "a")]
    config = algorithm("token_budget", norm_adv_by_std_in_grpo=False, advantage="grpo", **FIXED)
    data = compute_advantage(batch(rows), adv_estimator="token_budget", norm_adv_by_std_in_grpo=False, config=config)
    assert advantages_of(data) == pytest.approx([1 / 3, 1 / 3, -2 / 3], abs=FLOAT32)


def test_a_wrong_setting_is_refused_with_its_path():
    config = algorithm("token_budget", penaltty=1.0)
    with pytest.raises(ValueError, match=r"algorithm.efficiency: unknown setting 'penaltty'; did you mean 'penalty'\?"):
        compute_advantage(batch([Row(1.0, 3, "a")]), adv_estimator="token_budget", config=config)


def test_the_inputs_are_not_changed():
    data = batch(random_rows(random.Random(2)))
    before = {name: tensor.clone() for name, tensor in data.batch.items()}
    compute_advantage(data, adv_estimator="token_budget", config=algorithm("token_budget", **FIXED))
    assert all(torch.equal(data.batch[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("ours", "verls", "options"),
    [
        ("grpo", core_algos.compute_grpo_vectorized_outcome_advantage, {}),
        ("grpo", core_algos.compute_grpo_outcome_advantage, {}),
        ("dr_grpo", core_algos.compute_grpo_vectorized_outcome_advantage, {"norm_adv_by_std_in_grpo": False}),
        ("dr_grpo", core_algos.compute_grpo_outcome_advantage, {"norm_adv_by_std_in_grpo": False}),
        ("rloo", core_algos.compute_rloo_outcome_advantage, {}),
        ("batch", core_algos.compute_reinforce_plus_plus_baseline_outcome_advantage, {}),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_group_advantages_are_verls_own(ours, verls, options, seed):
    """Groups of one included. verl computes in float32 and divides a lone reward by 1 + 1e-6, hence the tolerance."""
    rng = random.Random(seed)
    rows = [Row(rng.choice([0.0, 1.0, 0.25]), rng.randrange(1, 9), f"g{rng.randrange(12)}") for _ in range(40)]
    rows += [Row(0.25, 4, "alone"), *([Row(1.0, 4, "all right")] * 3)]
    data = batch(rows)
    theirs, _ = verls(
        data.batch["token_level_rewards"], data.batch["response_mask"], data.non_tensor_batch["uid"], **options
    )
    rollouts = build(rows)
    assert group_advantage(ours, rollouts.scores_B, rollouts).tolist() == pytest.approx(theirs[:, 0].tolist(), abs=1e-5)


@call_sites
@pytest.mark.parametrize("by_deviation", [True, False])
def test_without_a_penalty_token_budget_is_verls_grpo(call, by_deviation):
    """With ``advantage=grpo`` as it stands, with our default as verl's switch makes it."""
    rows = [row for row in random_rows(random.Random(4)) if row.real and row.length]
    given = {"advantage": "grpo"} if by_deviation else {}
    ours, theirs = (
        call(
            batch(rows),
            keys_of(rows),
            adv_estimator=name,
            norm_adv_by_std_in_grpo=by_deviation,
            config=algorithm(name, norm_adv_by_std_in_grpo=by_deviation, penalty=0.0, **given),
        )
        for name in ("token_budget", "grpo")
    )
    assert torch.allclose(ours.batch["advantages"], theirs.batch["advantages"], atol=1e-5)


@call_sites
def test_batch_at_the_call_site_is_verls_reinforce_plus_plus_baseline(call):
    """``truncation`` without its own two parts, where nothing is cut off, tool tokens out of the mask."""
    rows = [row for row in random_rows(random.Random(5)) if row.real and row.length > 2]
    both = [batch(rows), batch(rows)]
    for data in both:
        data.batch["response_mask"][::3, 1] = 0
    given = {"advantage": "batch", "correct_boost": 0.0, "max_response_length": 10_000}
    ours, theirs = (
        call(data, keys_of(rows), adv_estimator=name, config=algorithm(name, **given))
        for data, name in zip(both, ("truncation", "reinforce_plus_plus_baseline"), strict=True)
    )
    torch.testing.assert_close(ours.batch["advantages"], theirs.batch["advantages"], atol=1e-5, rtol=1e-5)
    assert ours.batch["advantages"].abs().max() > 0.1


def test_padding_rows_as_verl_makes_them_count_nowhere(capsys):
    padding_utils = pytest.importorskip("verl.trainer.ppo.padding_utils")
    rows = [Row(1.0, 30, "a"), Row(1.0, 60, "a"), Row(0.0, 9, "a"), Row(1.0, 50, "b")]
    data = batch(rows)
    source = {"uid": "a", "response_mask": data.batch["response_mask"][0], "rm_scores": torch.zeros(61)}
    padding, tag = padding_utils.construct_minimal_padding_template(source, {}, eos_token_id=2)
    assert tag["is_padding"]
    width = data.batch["response_mask"].shape[1]
    tensors = {
        name: torch.cat([data.batch[name], torch.nn.functional.pad(row, (0, width - len(row))).expand(2, -1)])
        for name, row in {
            "token_level_rewards": padding["rm_scores"],
            "response_mask": padding["response_mask"],
        }.items()
    }
    uids = np.array([*data.non_tensor_batch["uid"], "pad0123", "pad0123"], dtype=object)
    padded = DataProto.from_dict(tensors=tensors, non_tensors={"uid": uids})
    for name in ("token_budget", "variance_routing"):
        outcomes = []
        for one in (data, padded):
            run.reset()
            outcomes.append(compute_advantage(one, adv_estimator=name, config=algorithm(name)).batch["advantages"])
        assert torch.equal(outcomes[1][:4], outcomes[0])
        assert (outcomes[1][4:] == 0).all()
        without, with_padding = capsys.readouterr().out.splitlines()  # the metrics
        assert with_padding == without


def test_an_empty_response_is_a_wrong_answer_not_padding():
    rows = [Row(1.0, 5, "a"), Row(0.0, 0, "a")]
    data = compute_advantage(
        batch(rows), adv_estimator="token_budget", config=algorithm("token_budget", advantage="dr_grpo")
    )
    assert data.batch["advantages"][0, 0].item() == pytest.approx(0.5)  # against the empty one; alone it would be 1


def test_one_line_per_step_says_what_is_in_force(capsys):
    config = algorithm("token_budget", **FIXED)
    compute_advantage(batch([Row(1.0, 5, "a"), Row(0.0, 7, "a")]), adv_estimator="token_budget", config=config)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[token_budget]")]
    # one of two right: d = 1 − 1.5/3 = 0.5
    assert line == (
        "[token_budget] b_min=20 b_max=100 budget=60 difficulty=0.5 over_budget=0 penalty=0 length_share=1 "
        "running_accuracy=0.5 best_accuracy=0 solve_rate=0.5 length_term=0 unsolved_share=0"
    )


NEEDS_V1 = pytest.mark.skipif(verl.__version__.startswith("0.8"), reason="names trainer.use_v1, which verl 0.8 lacks")
GDPO_TERMS = [{"name": "accuracy", "weight": 1.0}, {"name": "repetition", "weight": 0.1, "n": 1}]
GDPO_TEXTS = ("so so so \\boxed{4}", "\\boxed{4}", "\\boxed{5}", "no no \\boxed{5}", "\\boxed{4}", "it is \\boxed{4}")


@NEEDS_V1
def test_verls_gdpo_normalises_the_terms_of_a_composition(compose):
    """What our reward returns, through verl's estimator as its older trainer calls it, against plain loops in float64."""
    results = [composition("sums", text, "4", terms=GDPO_TERMS) for text in GDPO_TEXTS]
    rows = [Row(result["score"], 2 + number, "aaaabb"[number]) for number, result in enumerate(results)]
    data = batch(rows)
    data.batch["prompts"] = torch.ones(6, 3, dtype=torch.int64)
    data.batch["attention_mask"] = torch.cat([data.batch["prompts"], data.batch["response_mask"]], dim=1)
    without = DataProto(batch=data.batch.exclude("prompts"), non_tensor_batch=dict(data.non_tensor_batch))
    for key in results[0]:
        data.non_tensor_batch[key] = np.array([result[key] for result in results])
    config = compose(
        "algorithm.adv_estimator=gdpo",
        "trainer.use_v1=False",
        "+algorithm.gdpo_reward_keys=[term_accuracy,term_repetition]",
        "+algorithm.gdpo_reward_weights=[1.0,0.1]",
    )
    compute_advantage(data, adv_estimator="gdpo", config=config.algorithm)

    total = [0.0] * 6
    for key, weight in (("term_accuracy", 1.0), ("term_repetition", 0.1)):
        normalised = reference.group_advantage("grpo", [result[key] for result in results], rows)
        total = [a + weight * b for a, b in zip(total, normalised, strict=True)]
    tokens = [value for value, row in zip(total, rows, strict=True) for _ in range(row.length)]
    mean, deviation = statistics.fmean(tokens), statistics.stdev(tokens)
    assert advantages_of(data) == pytest.approx([(value - mean) / deviation for value in total], abs=1e-4)
    assert len({round(value, 6) for value in total}) > 3, "both terms matter"
    with pytest.raises(KeyError):  # what the V1 trainer hands over
        compute_advantage(without, adv_estimator="gdpo", config=config.algorithm)


@NEEDS_V1
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["trainer.use_v1=True", "+algorithm.gdpo_reward_keys=[term_accuracy]"], ["trainer.use_v1: ", "False"]),
        ([], ["algorithm.gdpo_reward_keys: ", "[term_accuracy,term_repetition]"]),
        (
            ["+algorithm.gdpo_reward_keys=[term_acuracy]"],
            ["algorithm.gdpo_reward_keys: ", "did you mean 'term_accuracy'"],
        ),
        (
            ["+algorithm.gdpo_reward_keys=[term_accuracy,term_repetition]", "+algorithm.gdpo_reward_weights=[1.0]"],
            ["algorithm.gdpo_reward_weights: ", "2 keys, got 1"],
        ),
        (["+algorithm.gdpo_reward_keys=[term_accuracy,acc]"], None),
    ],
)
def test_gdpo_without_the_terms_is_refused(compose, overrides, words):
    ours = ("path=pkg://verl_efficiency.rewards", "name=composition")
    launch = [
        *(f"reward.custom_reward_function.{setting}" for setting in ours),
        "reward.reward_manager.name=efficiency",
    ]
    config = compose("algorithm.adv_estimator=gdpo", "trainer.use_v1=False", *launch, *overrides)
    problems = start_up.check(config)
    assert len(problems) == (words is not None)
    for word in words or []:
        assert word in problems[0]


@pytest.mark.parametrize(
    ("reward", "turns", "said"),
    [("stop_properly", True, True), ("stop_properly", False, False), ("accuracy", True, False)],
)
def test_a_reward_that_counts_the_tokens_of_tools_says_so(compose, caplog, reward, turns, said):
    ours = ("path=pkg://verl_efficiency.rewards", f"name={reward}")
    launch = [
        *(f"reward.custom_reward_function.{setting}" for setting in ours),
        "reward.reward_manager.name=efficiency",
    ]
    config = compose(*launch, f"actor_rollout_ref.rollout.multi_turn.enable={turns}")
    assert start_up.check(config) == []
    assert [reward in record.getMessage() for record in caplog.records if record.name == "verl_efficiency"] == [
        True
    ] * said


def test_verl_knows_our_names():
    for method in ESTIMATORS.values():
        plain, alias = (core_algos.get_adv_estimator_fn(name) for name in (method.name, f"efficiency.{method.name}"))
        assert plain is alias
        assert plain.__module__ == "verl_efficiency.verl.estimators"
        core_algos.register_adv_est(method.name)(plain)  # the same function again is fine with verl
    from verl.trainer.ppo.utils import need_critic

    config = {"algorithm": {"adv_estimator": "token_budget"}, "critic": {"enable": None}}
    assert not need_critic(OmegaConf.create(config))


CLASH = """
import json
import verl.utils.config
from verl.trainer.ppo import core_algos
from omegaconf import OmegaConf
from verl_efficiency.verl.checks import estimator
registry = core_algos.ADV_ESTIMATOR_REGISTRY
print(json.dumps({
    "plain": registry["token_budget"].__module__,
    "alias": registry["efficiency.token_budget"].__module__,
    "other": registry["variance_routing"].__module__,
    "taken_for_ours": estimator.estimator_of(OmegaConf.create({"algorithm": {"adv_estimator": "token_budget"}})) is not None,
    "checked_twice": hasattr(verl.utils.config.validate_config.__wrapped__, "__wrapped__"),
}))
"""
FOREIGN = """
from verl.trainer.ppo.core_algos import register_adv_est

@register_adv_est("token_budget")
def theirs(token_level_rewards, response_mask, **_):
    return response_mask, response_mask
"""


@pytest.fixture(scope="module")
def clash(fresh, tmp_path_factory):
    """What a process sees in which somebody else has registered ``token_budget`` before us.

    In verl 0.9 it finds the plugin twice, by the environment variable and by the entry point.
    """
    import json
    import os

    folder = tmp_path_factory.mktemp("foreign")
    (folder / "foreign.py").write_text(FOREIGN)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    done = fresh(CLASH, PYTHONPATH=path, VERL_USE_EXTERNAL_MODULES="foreign,verl_efficiency.verl.plugin")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_a_name_that_verl_has_already_stays_verls_and_the_alias_is_ours(clash):
    seen, log = clash
    assert seen["plain"] == "foreign"
    assert seen["alias"] == seen["other"] == "verl_efficiency.verl.estimators"
    warnings = [line for line in log.splitlines() if "advantage estimator 'token_budget' is registered already" in line]
    assert len(warnings) == 1
    assert "efficiency.token_budget is ours" in warnings[0]


def test_a_plugin_that_is_found_twice_is_there_once(clash):
    assert not clash[0]["checked_twice"]


def test_the_start_up_check_leaves_a_foreign_estimator_of_our_name_alone(clash):
    assert not clash[0]["taken_for_ours"]


# Columns of the data set, from a real TransferQueue ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def queue(compose):
    """A TransferQueue as verl starts it (two Ray actors on this machine)."""
    ray, tq = pytest.importorskip("ray"), pytest.importorskip("transfer_queue")
    pytest.importorskip("verl.trainer.ppo.v1.trainer_base")
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        tq.init(compose("transfer_queue.backend.SimpleStorage.num_data_storage_units=1").transfer_queue)
        yield tq
        tq.close()
    finally:
        ray.shutdown()


# uid, prompt text, difficulty, and (score, length) of each rollout
PROMPTS = [
    ("5b1c_a", "1+1", 0.0, [(1.0, 3), (1.0, 9), (0.0, 2)]),
    ("77aa_b", "2+2", 1.0, [(1.0, 4), (1.0, 12), (0.0, 5)]),
    ("0f3e_c", "3+3", 0.5, [(1.0, 6)]),
]
QUEUE_ROWS = [Row(score, length, uid) for uid, _, _, answers in PROMPTS for score, length in answers]


def put(tq, step, prompts=PROMPTS, *, multiple=4):
    """One step's rollouts and padding, put by verl's own code; returns verl's handle of the batch.

    Of a session with several outputs, each output but the first has a prompt of 5 tokens instead of 2.
    """
    from transfer_queue import KVBatchMeta
    from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput
    from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    keys, fields, tags = [], [], []
    for number, (uid, text, difficulty, answers) in enumerate(prompts):
        tq.kv_put(key=f"{step}{uid}", partition_id="train", tag={"status": "finished"})
        columns = {
            "uid": f"{step}{uid}",
            "raw_prompt": [{"role": "user", "content": text}],
            "data_source": "sums",
            "index": number,
            "level": difficulty,
            "extra_info": {"index": number, "difficulty": difficulty, "deep": {"level": difficulty}},
        }
        for session, index, score, length in outputs_of(answers):
            output = AgentLoopOutput(
                prompt_ids=[1, 2, 3, 4, 5] if index else [1, 2],
                response_ids=[7] * length,
                response_mask=[1] * length,
                reward_score=score,
                num_turns=2,
                metrics=AgentLoopMetrics(),
            )
            field = output.as_dict() | columns
            field["input_ids"] = torch.cat([field["prompts"], field["responses"]])
            field["position_ids"] = torch.arange(len(field["input_ids"]))
            fields.append(field)
            keys.append(f"{step}{uid}_{session}_{index}")
            tags.append({"status": "success", "prompt_len": len(field["prompts"])})
    order = random.Random(step).sample(range(len(keys)), len(keys))  # verl balances: groups do not stay together
    tq.kv_batch_put(keys=keys, partition_id="train", fields=list_of_dict_to_tensordict(fields), tags=tags)
    handle = KVBatchMeta(keys=[keys[n] for n in order], tags=[tags[n] for n in order], partition_id="train")
    return upsample_batch_to_divisible_size(handle, multiple, eos_token_id=2)


def outputs_of(answers):
    """(session, output, score, length) of every output; an answer is (score, length of each output)."""
    return [
        (session, index, score, length)
        for session, (score, *lengths) in enumerate(answers)
        for index, length in enumerate(lengths)
    ]


def train_step(tq, compose, step, *overrides, prompts=PROMPTS):
    """``PPOTrainer._compute_advantage`` itself, on a trainer that has nothing but its configuration."""
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    config = compose("algorithm.adv_estimator=token_budget", *overrides)
    handle = put(tq, step, prompts)
    PPOTrainer._compute_advantage(SimpleNamespace(config=config), handle, {})
    data = tq.kv_batch_get(keys=handle.keys, partition_id="train", select_fields=["advantages"])
    found = dict(zip(handle.keys, (row[0].item() for row in data["advantages"].unbind()), strict=True))
    padding = [value for key, value in found.items() if key.startswith("pad")]
    assert padding == [0.0]  # seven rows, filled up to eight
    expected_keys = [
        f"{step}{uid}_{session}_{index}" for uid, _, _, answers in prompts for session, index, *_ in outputs_of(answers)
    ]
    tq.kv_clear(keys=[*tq.kv_list("train")["train"]], partition_id="train")
    return [found[key] for key in expected_keys]


BUDGET = ("+algorithm.efficiency.b_min=2", "+algorithm.efficiency.b_max=10")


@pytest.mark.e2e
@pytest.mark.parametrize("column", ["extra_info.difficulty", "extra_info.deep.level", "level"])
@pytest.mark.parametrize("source", ["data", "blend"])
def test_difficulty_from_a_column(queue, compose, source, column):
    ours = train_step(
        queue,
        compose,
        1,
        *BUDGET,
        f"+algorithm.efficiency.difficulty={source}",
        f"+algorithm.efficiency.difficulty_column={column}",
    )
    known = {uid: difficulty for uid, _, difficulty, _ in PROMPTS}
    settings = TokenBudgetSettings(b_min=2.0, b_max=10.0, difficulty=source)
    expected, _ = reference.token_budget(QUEUE_ROWS, settings, {}, known_difficulty=known)
    assert ours == pytest.approx(expected, abs=FLOAT32)


@pytest.mark.e2e
@pytest.mark.parametrize("column", [None, "extra_info.index", "index"])
def test_running_difficulty_recognises_prompts_across_steps(queue, compose, column):
    overrides = [] if column is None else [f"+algorithm.efficiency.prompt_column={column}"]
    settings, expected_state = TokenBudgetSettings(b_min=2.0, b_max=10.0, difficulty="running"), {}
    prompts = {uid: text for uid, text, _, _ in PROMPTS}
    for step in (1, 2, 3):  # other uids in every step, as in verl
        ours = train_step(queue, compose, step, *BUDGET, "+algorithm.efficiency.difficulty=running", *overrides)
        expected, _ = reference.token_budget(QUEUE_ROWS, settings, expected_state, prompts=prompts)
        assert ours == pytest.approx(expected, abs=FLOAT32)
    rates = run.state_of(ESTIMATORS["token_budget"]).solve_rates
    assert sorted(rates.values()) == pytest.approx(sorted(expected_state["rates"].values()))
    if column is not None:
        assert set(rates) == {"0", "1", "2"}


@pytest.mark.e2e
@pytest.mark.parametrize("column", [None, "extra_info.index"])
def test_hapo_recognises_prompts_across_steps(queue, compose, column):
    """At step 1 nothing is known; from step 2 on the shortest correct lengths are 3, 4 and 6, under other uids."""
    overrides = ["algorithm.adv_estimator=hapo"]
    overrides += [] if column is None else [f"+algorithm.efficiency.prompt_column={column}"]
    history, steps = {}, []
    for step in (1, 2, 3):
        steps.append(train_step(queue, compose, step, *overrides))
        expected = formulas.hapo(QUEUE_ROWS, HapoSettings(), history)
        assert steps[-1] == pytest.approx(expected, abs=FLOAT32)
    assert steps[0] != steps[1]
    shortest = run.state_of(ESTIMATORS["hapo"]).shortest
    assert sorted(shortest.values()) == [3, 4, 6]


@pytest.mark.e2e
def test_toggle_keeps_the_budgets_of_its_prompts(queue, compose):
    """Under other uids in every step; from step 2 on the phase has no budgets, which the advantages show."""
    state, steps = {}, []
    for step in (1, 2):
        steps.append(
            train_step(queue, compose, step, "algorithm.adv_estimator=toggle", "+algorithm.efficiency.phase_steps=1")
        )
        assert steps[-1] == pytest.approx(
            formulas.toggle(QUEUE_ROWS, ToggleSettings(phase_steps=1), state), abs=FLOAT32
        )
    assert steps[0] != steps[1]
    assert sorted(run.state_of(ESTIMATORS["toggle"]).budgets.values()) == [6.0, 6.0, 8.0]  # medians


@pytest.mark.e2e
def test_context_is_counted_from_the_prompts(queue, compose):
    """Every prompt has 2 tokens and there are no tools: context and turns are the same for all of a group."""
    ours = train_step(queue, compose, 1, "algorithm.adv_estimator=pass_rate")
    expected = formulas.pass_rate(QUEUE_ROWS, PassRateSettings(context_weight=0.0, turns_weight=0.0), {})
    alone = -0.1 - 0.1  # a group of one keeps its reward
    assert ours == pytest.approx([*expected[:-1], expected[-1] + alone], abs=FLOAT32)
    ours = train_step(
        queue, compose, 2, "algorithm.adv_estimator=kimi", "+algorithm.efficiency.cost=generated+3*context"
    )
    assert ours == pytest.approx(formulas.kimi(QUEUE_ROWS, KimiSettings(), {}), abs=FLOAT32)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("cost", "lengths"),
    [("generated", [9, 9, 5, 8, 8]), ("turns", [1, 3, 1, 1, 1]), ("context", [2, 12, 2, 2, 2])],
)
def test_the_outputs_of_a_session_count_together(queue, compose, cost, lengths):
    """Seven rows of five sessions; each output has its own prompt, and in each the policy writes once."""
    prompts = [
        ("5b1c_a", "1+1", 0.0, [(1.0, 9), (1.0, 2, 3, 4), (0.0, 5)]),
        ("77aa_b", "2+2", 1.0, [(1.0, 8), (0.0, 8)]),
    ]
    found = train_step(
        *(queue, compose, 1, "algorithm.adv_estimator=kimi", f"+algorithm.efficiency.cost={cost}"), prompts=prompts
    )
    scores, uids = (1.0, 1.0, 0.0, 1.0, 0.0), ("a", "a", "a", "b", "b")
    rows = [Row(score, length, uid) for score, length, uid in zip(scores, lengths, uids, strict=True)]
    first, second, third, *others = formulas.kimi(rows, KimiSettings(), {})
    assert found == pytest.approx([first, second, second, second, third, *others], abs=FLOAT32)


@pytest.mark.e2e
def test_a_column_that_is_not_there_is_named(queue, compose):
    with pytest.raises(KeyError, match=r"no column 'extra_info\.difficlty'"):
        train_step(
            queue,
            compose,
            1,
            *BUDGET,
            "+algorithm.efficiency.difficulty=data",
            "+algorithm.efficiency.difficulty_column=extra_info.difficlty",
        )
