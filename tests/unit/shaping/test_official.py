"""The numbers that the authors' own code gives on one fixed batch, where that code is public.

The code was run outside of this project at the commit named beside the numbers, its imports of trainers and graders replaced by
stand-ins. It works in float32 in places, hence the tolerance. Each is compared twice: at the scores that the code works on, and
at scores of 1 and 0, where the rewards are theirs on another scale.
"""

import dataclasses

import pytest
import torch

from tests.unit import reference
from tests.unit.reference import Row
from tests.unit.shaping.batches import advantages, settings_of
from tests.unit.test_rollouts import build
from verl_efficiency.methods.advantages import group_advantage
from verl_efficiency.methods.catalog import ESTIMATORS

# Four rollouts each of a mixed problem, a hard one, an easy one with ties, and one that nobody solves; the limit is 512.
LENGTHS = [120, 480, 60, 250, 300, 90, 200, 310, 100, 150, 100, 400, 50, 70, 90, 512]
RIGHT = [1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0]
LIMIT = 512


def batch(right: float, wrong: float, *, length: int = 1) -> list[Row]:
    """The batch with the scores that that code works on, and lengths as many times as long."""
    scores = [right if correct else wrong for correct in RIGHT]
    return [Row(scores[i], LENGTHS[i] * length, "abcd"[i // 4]) for i in range(16)]


# Rewards before the advantage: scores of right and wrong answers, settings, rewards.
REWARDS = {
    # Zanette-Labs/efficient-reasoning e3611e4, reward_server/math_server.py (alpha 0.1, check_eos)
    "arora": (
        1,
        0,
        {},
        """0.97497577 0.92106082 0 0.95557529  0 0 0.95 0
                           0.96689692 0.95748119 0.96689692 0.915335  0 0 0 0""",
    ),
    # hkust-nlp/Laser c9e7c4e, verl/utils/reward_score/length_penalty.py; its re-implementation of Kimi k1.5
    "kimi": (
        1,
        -0.5,
        {},
        """1.14285719 0.80000001 -0.5 1.01904762  -0.68181819 -0.5 1 -0.69999999
                             1.20000005 1.13333333 1.20000005 0.80000001  -0.5 -0.5 -0.5 -0.69999999""",
    ),
    "laser": (1, -0.5, {"target_length": 150.0}, "1.5 1 -0.5 1  -0.5 -0.5 1 -0.5  1.5 1.5 1.5 1  -0.5 -0.5 -0.5 -0.5"),
    # The same, with its coverage statistics (count_length_distribution.py) taken on this batch: targets 512, 512, 128.
    "laser_d": (1, -0.5, {"grid_points": 8}, "1.5 1 -0.5 1  -0.5 -0.5 1.5 -0.5  1.5 1 1.5 1  -0.5 -0.5 -0.5 -0.5"),
    # lblankl/Short-RL 07cea8a, deepscaler/deepscaler/rewards/ShortRL.py, length_tolerance 60
    # Its scores of right and wrong answers are 2 and -1.5, plus 1 for the form.
    "short_rl": (
        3,
        -0.5,
        {"length_tolerance": 60.0},
        """3.5 2.5 -0.5 3.13888884  -0.5 -0.5 3.5 -0.5
                                    3.5 3.5 3.5 2.5  -0.5 -0.5 -0.5 -0.5""",
    ),
    # JingyangYi/ShorterBetter 6399366, verl/verl/workers/reward_manager/naive.py
    "shorter_better": (
        1,
        0,
        {},
        """2 1.64 -0.06 1.87  -0.1 -0.11 2 -0.11  2 1.95 2 1.7
                                    -0.1305 -0.1105 -0.0905 -0.3315""",
    ),
    # JinyanSu1/A-DLP afbc411, verl/verl/trainer/main_ppo.py, lambda 0.001
    "a_dlp": (1, 0, {}, "0.88 0.52 -0.06 0.75  -0.3 -0.09 0.8 -0.31  0.9 0.85 0.9 0.6  -0.05 -0.07 -0.09 -0.512"),
    # eddycmu/demystify-long-cot e90cf9b, openrlhf/openrlhf/reward/cosine.py: 2 → 1, −10 → 0, exceed −10, max_len 512
    "cosine": (
        1,
        0,
        {},
        """1.87047556 1.00960736 -9.66496399 1.51840361  -3.66643621 -9.25677597 1.66844493 -3.37344854
                            1.90879241 1.80275552 1.90879241 1.11349477  -9.7665302 -9.54583992 -9.25677597 -10""",
    ),
}


def at(right: float, wrong: float, scale: str) -> tuple[list[Row], dict[str, float], float]:
    """The batch at the scores of the code or at 0/1, the settings that name them, and the distance between the scores over the
    code's."""
    if scale == "theirs":
        return batch(right, wrong), {"score_correct": float(right), "score_wrong": float(wrong)}, 1.0
    return batch(1, 0), {}, 1 / (right - wrong)


both_scales = pytest.mark.parametrize("scale", ["theirs", "0/1"])


@both_scales
@pytest.mark.parametrize("name", REWARDS)
def test_rewards(name, scale):
    right, wrong, given, official = REWARDS[name]
    (rows, scores, ratio), rewards = at(right, wrong, scale), [float(number) for number in official.split()]
    if name in ("arora", "laser_d", "cosine"):
        given = {**given, "max_response_length": LIMIT}
    for advantage in ("dr_grpo", "rloo"):
        chosen = settings_of(name, **given, **scores, advantage=advantage, unsolved="as_published")
        expected = [ratio * value for value in reference.group_advantage(advantage, rewards, rows)]
        assert advantages(name, rows, chosen) == pytest.approx(expected, abs=1e-6)
    chosen = settings_of(
        name, **given, **scores, advantage="grpo", unsolved="as_published"
    )  # knows no scale, but for its ε
    assert advantages(name, rows, chosen) == pytest.approx(reference.group_advantage("grpo", rewards, rows), abs=1e-3)


def centred(rewards, rows):
    return pytest.approx(reference.group_advantage("dr_grpo", rewards, rows), abs=1e-6)


@both_scales
def test_laser_de(scale):
    """hkust-nlp/Laser c9e7c4e with targets of 256 (low accuracy), 192 and 128 tokens, and no repetition in the responses.

    One difference, by design: its wrong answer of 512 tokens gets the bonus too, since its text does not repeat itself; an
    estimator sees no text and withholds the bonus at the limit.
    """
    rows, scores, ratio = at(1, -0.5, scale)
    given = {"max_response_length": LIMIT, "grid_points": 8, "update_every": 20, "advantage": "dr_grpo"}
    chosen = settings_of("laser_de", **given, **scores)
    state = ESTIMATORS["laser_de"].new_state()
    state.steps, state.targets = 1, [256, 192, 128]
    official = [1.5, 1, -0.5, 1, 0, -0.5, 1.5, 0, 1.5, 1, 1.5, 1, -0.5, -0.5, -0.5, 0]
    ours = [ratio * reward for reward in [*official[:-1], -0.5]]
    assert advantages("laser_de", rows, chosen, state) == centred(ours, rows)


def test_short_rl_pauses():
    """lblankl/Short-RL 07cea8a: with a best accuracy of 0.9 before, this batch (0.5) is not shaped."""
    rows, state = batch(1, 0), ESTIMATORS["short_rl"].new_state()
    state.best_accuracy = 0.9
    chosen = settings_of("short_rl", advantage="dr_grpo")
    assert advantages("short_rl", rows, chosen, state) == centred(RIGHT, rows)


def test_hapo():
    """HCY123902/HAPO c91ae3b, utils.py, with shortest correct lengths of 100, 400 and 90 known for the first three problems."""
    rows, state = batch(1, 0), ESTIMATORS["hapo"].new_state()
    state.shortest = {"a": 100, "b": 400, "c": 90}
    rewards = [0.69098301, 0.3, 0, 0.3, 0, 0, 1.70710678, 0, 0.82635182, 0.3, 0.82635182, 0.3, 0, 0, 0, 0]
    assert advantages("hapo", rows, settings_of("hapo", advantage="dr_grpo"), state) == centred(rewards, rows)
    assert state.shortest == {"a": 100, "b": 200, "c": 90}


@both_scales
def test_leash(scale):
    """YanhaoLi-Cc/verl b03e677 (Leash's first author), constraint_reward_manager.py: target 150, λ 0.5, step 0.1, two steps."""
    (rows, scores, ratio), state = at(1, -1, scale), ESTIMATORS["leash"].new_state()
    given = {"target_length": 150.0, "initial_price": 0.5, "step": 0.1, "advantage": "dr_grpo"}
    first = [1, -0.1, -1, 0.66666667, -1, -1, 0.83333333, -1, 1, 1, 1, 0.16666667, -1, -1, -1, -1]
    second = [1, -0.18085, -1, 0.64216667, -1, -1, 0.82108333, -1, 1, 1, 1, 0.10541667, -1, -1, -1, -1]
    chosen = settings_of("leash", **given, **scores)
    assert advantages("leash", rows, chosen, state) == centred([ratio * reward for reward in first], rows)
    assert state.price == pytest.approx(0.53675)
    assert advantages("leash", rows, chosen, state) == centred([ratio * reward for reward in second], rows)
    assert state.price == pytest.approx(0.5735)


# Three steps of A-DLP whose accuracies are 0.5, 0.75 and 0.5: the rewards of each, and the price after it.
A_DLP_STEPS = (
    (
        RIGHT,
        """0.88 0.52 -0.06 0.75  -0.3 -0.09 0.8 -0.31  0.9 0.85 0.9 0.6  -0.05 -0.07 -0.09 -0.512""",
        0.00088,
    ),
    (
        [1] * 12 + [0] * 4,
        """0.8944 0.5776 0.9472 0.78  0.736 0.9208 0.824 0.7272  0.912 0.868 0.912 0.648
           -0.044 -0.0616 -0.0792 -0.45056""",
        0.00101,
    ),
    (
        RIGHT,
        """0.8788 0.5152 -0.0606 0.7475  -0.303 -0.0909 0.798 -0.3131  0.899 0.8485 0.899 0.596
           -0.0505 -0.0707 -0.0909 -0.51712""",
        0.00089,
    ),
)


def test_the_price_of_a_dlp():
    """JinyanSu1/A-DLP afbc411: ``constrained_reward_fn`` of main_ppo.py and the lines of ray_trainer.py from there to the new
    λ, run in turn with acc_init 0.62, lambda_init 0.001 and lr 0.001: rewards at the old λ, then λ moves."""
    state, chosen = ESTIMATORS["a_dlp"].new_state(), settings_of("a_dlp", step=0.001, advantage="dr_grpo")
    for right, official, price in A_DLP_STEPS:
        rows = [Row(float(right[i]), LENGTHS[i], "abcd"[i // 4]) for i in range(16)]
        assert advantages("a_dlp", rows, chosen, state) == centred([float(x) for x in official.split()], rows)
        assert state.price == pytest.approx(price, abs=1e-9)


def test_the_price_of_a_dlp_stays_at_0_or_above():
    """The same with lr 0.01 and accuracies of 0.5, 0.75, 0.5, 0 and 1."""
    state, chosen = ESTIMATORS["a_dlp"].new_state(), settings_of("a_dlp", step=0.01)
    for right, price in ((8, 0), (12, 0.0013), (8, 0.0001), (0, 0), (16, 0.0038)):
        advantages("a_dlp", [Row(float(i < right), LENGTHS[i], "abcd"[i // 4]) for i in range(16)], chosen, state)
        assert state.price == pytest.approx(price, abs=1e-9)


@both_scales
def test_grpo_lead(scale):
    """aeroplanepaper/GRPO-LEAD 9344bef: rewards (main_ppo.py) and reweighted advantages (core_algos.py), lengths × 100 so that
    its gate of 4000 tokens opens for every group with a right answer. Half the scale doubles what the ε of GRPO takes away."""
    _, scores, _ = at(1, -1, scale)
    rows = batch(1, -1, length=100) if scores else batch(1, 0, length=100)
    official = [0.51729385, 0.42399789, -2.23711538, 0.48253635, -0.47499955, -0.47499955, 2.23895457, -0.47499955,
                0.2967824, 0.12083374, 0.2967824, -2.21569275, 0, 0, 0, 0]  # fmt: skip
    for gate in (0.0, 4000.0):
        given = advantages("grpo_lead", rows, settings_of("grpo_lead", shape_above=gate, **scores))
        assert given == pytest.approx(official, abs=2e-5 if scores else 6e-5)


def test_drpo():
    """Optimization-AI/DRPO 405f702, compute_policy_loss_drpo with Lambda 0.1 and tau 10.

    Minus its gradient by each rollout's mean log-probability, times 16 rollouts: what verl's seq-mean-token-mean makes of an
    advantage. Equal log-probabilities first; then mean log-probabilities that differ by up to 0.5, where its softmax over the
    wrong ones stops being flat, while ours stays flat by design.
    """
    chosen = settings_of("drpo", max_response_length=LIMIT)
    ours = advantages("drpo", batch(1, 0), chosen)
    equal = [3.70430669, 0.00327396, -4, 0.29241935, -1.33333333, -1.33333333, 4, -1.33333333, *[0] * 8]
    assert ours == pytest.approx(equal, abs=1e-6)
    unequal = [3.70430669, 0.00327396, -4, 0.29241935, -1.32999736, -1.32031556, 4, -1.34968709, *[0] * 8]
    assert ours == pytest.approx(unequal, rel=0.02)


@both_scales
@pytest.mark.parametrize("advantage", ["dr_grpo", "batch"])
def test_truncation(scale, advantage):
    """NVlabs/DLER ea7d4f7: _apply_stop_properly_penalty (dapo.py, 0.1) with a limit of 400 tokens, and
    boost_high_score_advantages (dp_actor.py, 0.1 at a score of 1), which is given the scores before that penalty
    (``token_level_scores`` in recipe/dapo/dapo_ray_trainer.py)."""
    rewards = [1, 0.1, 0, 1, 0, 0, 1, 0, 1, 1, 1, 0.1, 0, 0, 0, 0]
    boost = [0.1, 0.1, 0, 0.1, 0, 0, 0.1, 0, 0.1, 0.1, 0.1, 0.1, 0, 0, 0, 0]
    rows, scores, _ = at(1, 0, scale)
    plain = reference.group_advantage(advantage, rewards, rows)
    expected = [value + extra for value, extra in zip(plain, boost, strict=True)]
    chosen = settings_of("truncation", max_response_length=400, advantage=advantage, **scores)
    assert advantages("truncation", rows, chosen) == pytest.approx(expected)


ROC = {  # keep, min_wrong, min_correct: which rollouts
    (2, 1, 1): "1010 1010 1010 1100",
    (3, 1, 1): "1011 1110 1110 1110",
    (2, 0, 0): "1001 1100 1010 1100",
    (3, 2, 1): "1011 1110 1110 1110",
}


@pytest.mark.parametrize("keep", ROC)
def test_grpo_roc(keep):
    """microsoft/rStar ecbfb94, resample_of_correct with texts whose share of tool errors grows with their length."""
    rows = batch(1, 0)
    kept = [letter == "1" for letter in ROC[keep].replace(" ", "")]
    chosen = settings_of("grpo_roc", keep=keep[0], min_wrong=keep[1], min_correct=keep[2], advantage="dr_grpo")
    expected = [0.0] * 16
    for start in range(0, 16, 4):
        members = [i for i in range(start, start + 4) if kept[i]]
        for i in members:
            others = [rows[j].score for j in members]
            expected[i] = rows[i].score - sum(others) / len(others) if len(members) > 1 else rows[i].score
    assert advantages("grpo_roc", rows, chosen) == pytest.approx(expected)


def test_gr3():
    """The example in PrimeIntellect-ai/prime-rl 00c3be8, tests/unit/orchestrator/test_advantage.py (alpha 0.33). The advantage
    is the difference to the mean, our default."""
    rows = [Row(1.0, 10, "a"), Row(0.5, 20, "a"), Row(0.8, 10, "a")]
    expected = [0.20915856, -0.25799648, 0.04883792]
    assert advantages("gr3", rows, settings_of("gr3")) == pytest.approx(expected, abs=1e-6)


def test_anytime_reasoner_with_one_budget_is_dr_grpo():
    """sail-sg/AnytimeReasoner 7e3f5bb, compute_cot_advantage of brpo.py with one budget and variance_reduction=v2only, which
    its README calls GRPO. With more budgets it needs several graded answers per rollout, and is not of this family."""
    official = [0.25, 0.25, -0.75, 0.25, -0.25, -0.25, 0.75, -0.25, 0, 0, 0, 0, 0, 0, 0, 0]
    rollouts = build(batch(1, 0))
    assert group_advantage("dr_grpo", rollouts.scores_B, rollouts).tolist() == pytest.approx(official)


@both_scales
def test_overlong(scale):
    """verl 0.9.1, DAPORewardManager.run_single (reward manager ``dapo``): max_resp_len 512, buffer 256, factor 1, scores ±1."""
    rewards = [1, 0.125, -1, 1, -1.171875, -1, 1, -1.2109375, 1, 1, 1, 0.4375, -1, -1, -1, -2]
    rows, scores, ratio = at(1, -1, scale)
    for advantage in ("dr_grpo", "rloo", "grpo"):
        given = {"max_response_length": LIMIT, "buffer": 256, "advantage": advantage}
        expected = reference.group_advantage(advantage, rewards, rows)
        factor = 1.0 if advantage == "grpo" else ratio
        found = advantages("overlong", rows, settings_of("overlong", **given, **scores))
        assert found == pytest.approx([factor * value for value in expected], abs=1e-5)


THINKING = [100, 300, 0, 200, 300, 50, 100, 110, 40, 90, 60, 100, 10, 30, 50, 512]
TURNS = [1, 3, 1, 2, 2, 2, 2, 1, 1, 1, 1, 4, 1, 2, 3, 4]
CONTEXT = [50, 90, 50, 70, 80, 81, 82, 50, 60, 60, 60, 120, 40, 50, 60, 70]


def counted(name, chosen):
    """Advantages on the 0/1 batch with the counts above."""
    counts = {"thinking_B": THINKING, "turns_B": TURNS, "context_B": CONTEXT}
    rollouts = dataclasses.replace(build(batch(1, 0)), **{key: torch.tensor(count) for key, count in counts.items()})
    return ESTIMATORS[name].function()(rollouts, chosen).advantages_B.tolist()


def test_pass_rate():
    """PrimeIntellect-ai/prime-rl 559b447, GRPOAlgorithm.score_group with its default linear length penalty (advantages)."""
    official = [0.323242, 0.099284, -0.65332, 0.230794, -0.270304, -0.22827, 0.749248, -0.250674,
                0.085938, 0.054688, 0.085938, -0.226562, 0, 0, 0, 0]  # fmt: skip
    assert counted("pass_rate", settings_of("pass_rate")) == pytest.approx(official, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "official"),
    [
        ({}, [1.088542, 0.821875, 0.071875, 1.017708, 0.021, 0.081, 1.001, -0.103,
              1.096474, 1.013141, 1.078526, 0.811859, -0.022012, -0.025996, -0.02998, 0.077988]),
        ({"thinking_bonus": 0.3, "answer_bonus": 0.2, "top_share": 0.5},
         [1.588542, 0.821875, 0.071875, 1.017708, 0.021, 0.581, 1.001, -0.103,
          1.396474, 1.013141, 1.278526, 0.811859, 0.477988, -0.025996, -0.02998, 0.077988]),
    ],
)  # fmt: skip
def test_grlc(given, official):
    """NVIDIA-NeMo/Gym 07d6b0d, apply_length_bonuses (scores) of genrm_compare/utils.py with coefficients 0.1 and 0.2, on texts
    with one letter per token."""
    chosen = settings_of("grlc", answer_weight=0.2, advantage="dr_grpo", **given)
    assert counted("grlc", chosen) == centred(official, batch(1, 0))
