"""Token budget: each group has a budget between ``b_min`` and ``b_max``, by its difficulty. Tokens over it cost score.

A budget is never below L_floor, by default the longest of the shortest quarter of the group's correct rollouts. One short
rollout can be luck, a quarter rarely is.

With score ``s``, length ``L`` (generated tokens) and difficulty ``d ∈ [0, 1]``::

    b     = max(b_min + (b_max − b_min) · d, L_floor)  budget, tokens
    o     = max(0, L − b) / b                          overrun, relative
    r     = max(s − λ · min(o, o_max), s_min)          shaped score of a correct rollout; a wrong one keeps s
    s_min = min(s, highest wrong score of the group, or 0, + margin)

With ``combine=decoupled``, the default, the advantage is ``A(s) + length_weight · A(r − s)``. The second term compares correct
rollouts only, and in it r has no lower bound. With ``combine=shaped_reward`` the advantage is A(r). The group advantage A is
``dr_grpo`` by default. In a group that is all correct, dividing by the standard deviation would turn even a small length term
into a full-size advantage, and that costs accuracy.

**Accuracy guard.** Length pressure can lower accuracy slowly. With the running accuracy a and its best value a*::

    share = 1 − (a* − a) / max(accuracy_guard, 2 e)       clipped to [0, 1]
    A     = A(s) + share · (shaped advantage − A(s))

So the length term fades while accuracy is below its best. At ``accuracy_guard`` below the best it is off, and the policy learns
from accuracy alone until accuracy recovers. a is an exponential average (0.9 of the past). e is its standard error, from the
spread of the solve rates between the groups of each batch. a* is the highest value of a − 2 e so far, because the maximum of
many noisy values of a would be too high.

The guard sees training batches only. If the trainer filters groups (``algorithm.filter_groups``), it sees only the groups that
are left, which says little. Turn the guard off (``accuracy_guard=null``) for a curriculum: once the prompts are much harder,
accuracy cannot reach its old best again.

Guarantees, with and without the guard:

* A wrong answer never gains from being short (with ``apply_to=correct``).
* With ``shaped_reward`` a correct answer scores above every wrong one of its group by ``margin``, or by its original lead if
  that is smaller. With ``decoupled`` the advantage of a wrong rollout is never above that of a correct one.
* The shaped score never rises with length.
* At or under its budget, a score does not change. With a floor, the shortest correct rollout of a group never pays.
* A higher difficulty never means a larger penalty.
* A group without a correct answer is not shaped.

Late in training most groups are solved by all rollouts. Then ``difficulty=group`` gives all of them a small budget, and only
``budget_floor`` makes a difference between them. It trades tokens for accuracy. On our toy task ``notes`` GRPO's tokens fell
by 14 % and its accuracy rose by 0.9 points with the default; by 21 % at −0.2 points with ``budget_floor=0``; by 27 % at −0.8
points without a floor. With the default, a rollout that is shorter than all its siblings gains nothing, which shows in long
runs (``benchmarks/results/longer.json``). Choose ``difficulty=data`` if your data has a difficulty.
``benchmarks/results/token_budget.json`` has all figures, also those of the guard and of ``length_weight``.

The linear budget follows the task-scaling law of Batched Contextual Reinforcement (arXiv 2604.02322). DAST (arXiv 2503.04472)
and LASER-D (arXiv 2505.15612) publish difficulty-adjusted budgets. The combination is ours.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from verl_efficiency.methods.advantages import AdvantageName, group_advantage
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import SettingsError, require, require_at_least_0

GUARD_DECAY = 0.9
GUARD_STANDARD_ERRORS = 2


@dataclass(frozen=True)
class TokenBudgetSettings(ShapingSettings):
    """Settings of ``token_budget``; every default works on its own.

    Attributes:
        difficulty: the source of d. ``group``: 1 − smoothed solve rate of the group. ``data``: the column
            ``difficulty_column``. ``running``: 1 − exponential average of the prompt's smoothed solve rate over the steps
            that saw it. ``blend``: ``blend_weight`` · data + (1 − ``blend_weight``) · group.
        difficulty_column: path of the column with d in [0, 1], for ``data`` and ``blend``.
        prompt_column: path of a column that names a prompt across epochs, for ``running``; null: its text is its name.
        smoothing: weight, in rollouts, of the prior solve rate ½.
        running_decay: weight of the past in the average of ``running``, in [0, 1).
        blend_weight: see ``difficulty``, in [0, 1].
        b_min, b_max: budget in tokens at d = 0 and d = 1; null: exponential averages of the 10th and 90th percentile of the
            lengths of correct rollouts. ``verl-efficiency calibrate`` fits fixed budgets to stored rollouts.
        budget_floor: L_floor is this quantile, in [0, 1], of the lengths of the group's correct rollouts, rounded down to one
            of them. 0: the shortest (0.25 too, with fewer than five correct ones); null: no floor. It holds for correct
            rollouts: with ``apply_to=all``, the budget of wrong ones has no floor.
        budget_decay: weight of the past in the averages of b_min and b_max, in [0, 1).
        penalty: λ, score lost at an overrun of 100 %.
        overrun_max: o_max, the largest overrun that counts.
        margin: minimum distance between every correct and every wrong rollout of a group (``shaped_reward``).
        apply_to: ``correct``, or ``all`` (then a short wrong answer scores above a long wrong one).
        gate_solve_rate: groups with a lower solve rate are not shaped; 0 shapes every group with a correct answer.
        accuracy_guard: the length term is off when the running accuracy is this far below its best, in (0, 1] (0.01 is one
            point); null: no guard.
    """

    combine: Literal["shaped_reward", "decoupled"] = "decoupled"
    advantage: AdvantageName = "dr_grpo"
    difficulty: Literal["group", "data", "running", "blend"] = "group"
    difficulty_column: str = "extra_info.difficulty"
    prompt_column: str | None = None
    smoothing: float = 1.0
    running_decay: float = 0.7
    blend_weight: float = 0.5
    b_min: float | None = None
    b_max: float | None = None
    budget_floor: float | None = 0.25
    budget_decay: float = 0.9
    penalty: float = 0.3
    overrun_max: float = 2.0
    margin: float = 0.05
    apply_to: Literal["correct", "all"] = "correct"
    gate_solve_rate: float = 0.0
    accuracy_guard: float | None = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.smoothing >= 0, "smoothing", self.smoothing, "a number of rollouts of at least 0")
        for name in ("running_decay", "budget_decay"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        for name in ("blend_weight", "gate_solve_rate"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        for name in ("b_min", "b_max"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, "a number of tokens above 0, or null to follow the run")
        floor = self.budget_floor
        require(floor is None or 0 <= floor <= 1, "budget_floor", floor, "a quantile in [0, 1], or null for no floor")
        guard = self.accuracy_guard
        require(guard is None or 0 < guard <= 1, "accuracy_guard", guard, "in (0, 1], or null for no guard")
        if self.b_min is not None and self.b_max is not None and self.b_min > self.b_max:
            raise SettingsError(f"b_min: must not be above b_max, got b_min={self.b_min:g} and b_max={self.b_max:g}")
        if self.combine == "decoupled" and self.apply_to == "all":
            raise SettingsError(
                "apply_to: must be 'correct' with combine=decoupled, which compares lengths among the correct only; "
                "set combine=shaped_reward too"
            )
        require_at_least_0(self, "penalty", "overrun_max", "margin")

    @property
    def columns(self) -> dict[str, str]:
        columns = {}
        if self.difficulty in ("data", "blend"):
            columns["difficulty"] = self.difficulty_column
        if self.difficulty == "running" and self.prompt_column is not None:
            columns["prompt"] = self.prompt_column
        return columns

    @property
    def names_prompts(self) -> bool:
        return self.difficulty == "running"

    @property
    def keeps_state(self) -> bool:
        follows = self.b_min is None or self.b_max is None
        return follows or self.difficulty == "running" or self.accuracy_guard is not None


@dataclass
class TokenBudgetState:
    """State from step to step.

    Attributes:
        low, high: averages of the 10th and 90th percentile of correct lengths, tokens; None before the first correct rollout.
        solve_rates: smoothed solve rate of each prompt, for ``difficulty=running``.
        accuracy: running accuracy of the guard, None before the first batch.
        accuracy_variance: the square of its standard error.
        best_accuracy: a*, the highest running accuracy minus two standard errors so far.
    """

    low: float | None = None
    high: float | None = None
    solve_rates: dict[str, float] = field(default_factory=dict)
    accuracy: float | None = None
    accuracy_variance: float = 0.0
    best_accuracy: float = 0.0


def token_budget(rollouts: Rollouts, settings: TokenBudgetSettings, state: TokenBudgetState) -> Outcome:
    """Advantages, (B,) float64. ``state`` is updated first, so that step 1 already has a budget.

    Two correct rollouts, at and over their budget of 10 tokens, and a wrong one. The accuracy advantages are ⅓, ⅓, −⅔. The
    length terms 0 and −0.3 become ±0.15 when centred, and half of that counts:

    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([10, 20, 3]), ["a", "a", "a"])
    >>> s = TokenBudgetSettings(b_min=10.0, b_max=10.0)
    >>> [round(a, 4) for a in token_budget(r, s, TokenBudgetState()).advantages_B.tolist()]
    [0.4083, 0.2583, -0.6667]
    """
    difficulty_G = _difficulty(rollouts, settings, state)
    _observe_lengths(rollouts, settings, state)
    low = settings.b_min if settings.b_min is not None else state.low
    high = settings.b_max if settings.b_max is not None else state.high
    if low is None or high is None:  # no correct rollout yet in this run: nothing to shape
        penalty_B = torch.zeros_like(rollouts.scores_B)
        budget_B = torch.full_like(rollouts.scores_B, torch.nan)
        low = high = float("nan")
    else:
        if low > high:  # one is set, and the other, which follows the run, has crossed it
            low, high = (low, low) if settings.b_min is not None else (high, high)
        budget_B = unraised_B = (low + (high - low) * difficulty_G)[rollouts.groups_B]
        if settings.budget_floor is not None:
            floor_G = _length_of_correct(rollouts, settings.budget_floor)
            budget_B = torch.maximum(budget_B, floor_G[rollouts.groups_B])
        own_B = torch.where(rollouts.correct_B, budget_B, unraised_B)  # the floor is for correct rollouts only
        overrun_B = (rollouts.lengths_B - own_B).clamp_min(0) / own_B
        penalty_B = settings.penalty * overrun_B.clamp_max(settings.overrun_max)

    open_G = (rollouts.count(rollouts.correct_B) > 0) & (rollouts.solve_rate() >= settings.gate_solve_rate)
    pays_B = open_G[rollouts.groups_B] & (rollouts.real_B if settings.apply_to == "all" else rollouts.correct_B)
    penalty_B = torch.where(pays_B, penalty_B, 0.0)

    shaped_B = paper_scores_of(rollouts, settings) - penalty_B
    if settings.combine == "shaped_reward":
        shaped_B = _above_the_wrong(rollouts, shaped_B, settings)
    share = _share(rollouts, settings, state)

    def guarded(advantages_B: Tensor) -> Tensor:
        if share == 1:
            return advantages_B
        plain_B = group_advantage(settings.advantage, rollouts.scores_B, rollouts)
        return plain_B + share * (advantages_B - plain_B)

    metrics = {
        "b_min": low,
        "b_max": high,
        "budget": rollouts.average(budget_B),
        "difficulty": rollouts.average(difficulty_G[rollouts.groups_B]),
        "over_budget": rollouts.average(penalty_B > 0),
        "penalty": rollouts.average(penalty_B),
        "length_share": share,
    }
    if settings.accuracy_guard is not None and state.accuracy is not None:
        metrics |= {"running_accuracy": state.accuracy, "best_accuracy": state.best_accuracy}
    return shaped_outcome(rollouts, shaped_B, settings, guarded, **metrics)


def _length_of_correct(rollouts: Rollouts, quantile: float) -> Tensor:
    """(G,) float64: this quantile of the lengths of each group's correct rollouts, tokens; 0 if there is none."""
    right_B = rollouts.correct_B
    place_B = rollouts.places([torch.where(right_B, rollouts.lengths_B.double(), torch.inf)])  # the correct ones first
    wanted_G = (quantile * (rollouts.count(right_B) - 1)).floor()
    return rollouts.total(rollouts.lengths_B, right_B & (place_B == wanted_G[rollouts.groups_B]))


def _above_the_wrong(rollouts: Rollouts, shaped_B: Tensor, settings: TokenBudgetSettings) -> Tensor:
    """(B,) the shaped scores; a correct one stays at least ``margin`` above the best wrong score of its group."""
    scores_B = paper_scores_of(rollouts, settings)
    best_wrong_G = rollouts.largest(scores_B, ~rollouts.correct_B)
    best_wrong_G = torch.where(best_wrong_G.isfinite(), best_wrong_G, 0.0)
    floor_B = torch.minimum(scores_B, best_wrong_G[rollouts.groups_B] + settings.margin)
    return torch.where(rollouts.correct_B, torch.maximum(shaped_B, floor_B), shaped_B)


def _share(rollouts: Rollouts, settings: TokenBudgetSettings, state: TokenBudgetState) -> float:
    """The share of the length term that the guard leaves, in [0, 1]. Updates the running accuracy first."""
    if settings.accuracy_guard is None:
        return 1.0
    real_G = rollouts.count() > 0
    if bool(real_G.any()):
        accuracy = rollouts.correct_B.sum().item() / int(rollouts.real_B.sum())
        rates = rollouts.solve_rate()[real_G]
        variance = (
            rates.var().item() / len(rates) if len(rates) > 1 else 0.25
        )  # one group: the largest possible variance
        past = 0.0 if state.accuracy is None else GUARD_DECAY
        state.accuracy = past * (state.accuracy or 0.0) + (1 - past) * accuracy
        state.accuracy_variance = past**2 * state.accuracy_variance + (1 - past) ** 2 * variance
    noise = GUARD_STANDARD_ERRORS * state.accuracy_variance**0.5
    accuracy = state.accuracy or 0.0
    state.best_accuracy = max(state.best_accuracy, accuracy - noise)
    below = state.best_accuracy - accuracy
    return min(1.0, max(0.0, 1 - below / max(settings.accuracy_guard, noise)))


def _difficulty(rollouts: Rollouts, settings: TokenBudgetSettings, state: TokenBudgetState) -> Tensor:
    """(G,) difficulty in [0, 1] from the chosen source."""
    if settings.difficulty == "data":
        return _known_difficulty(rollouts)
    own_G = 1 - rollouts.solve_rate(smoothing=settings.smoothing)
    if settings.difficulty == "blend":
        return settings.blend_weight * _known_difficulty(rollouts) + (1 - settings.blend_weight) * own_G
    if settings.difficulty == "running":
        if rollouts.prompt_ids_G is None:
            raise ValueError(
                "difficulty=running needs prompt_ids_G: a name for each prompt that is the same in every epoch"
            )
        decay, rates = settings.running_decay, []
        real_G = (rollouts.count() > 0).tolist()
        for prompt, own, real in zip(rollouts.prompt_ids_G, own_G.tolist(), real_G, strict=True):
            rate = decay * state.solve_rates.get(prompt, 1 - own) + (1 - decay) * (1 - own)
            if real:
                state.solve_rates[prompt] = rate
            rates.append(rate)
        return 1 - torch.tensor(rates, dtype=torch.float64, device=own_G.device)
    return own_G


def _known_difficulty(rollouts: Rollouts) -> Tensor:
    difficulty_G = rollouts.difficulty_G
    if difficulty_G is None:
        raise ValueError("this difficulty source needs difficulty_G: a number in [0, 1] for every group")
    real_G = rollouts.count() > 0
    bad_G = real_G & ~((difficulty_G >= 0) & (difficulty_G <= 1))
    if bool(bad_G.any()):
        group = int(bad_G.nonzero()[0])
        raise ValueError(
            f"difficulty of group {rollouts.labels_G[group]} is {difficulty_G[group].item():g}; it must be in [0, 1]"
        )
    return torch.where(real_G, difficulty_G.double(), 0.5)


def _observe_lengths(rollouts: Rollouts, settings: TokenBudgetSettings, state: TokenBudgetState) -> None:
    """Move the running percentiles towards those of this batch's correct rollouts (empty responses count as 1 token)."""
    lengths = rollouts.lengths_B[rollouts.correct_B].double().clamp_min(1)
    if len(lengths) == 0:
        return
    low, high = torch.quantile(lengths, torch.tensor([0.1, 0.9], dtype=torch.float64, device=lengths.device)).tolist()
    decay = settings.budget_decay
    state.low = low if state.low is None else decay * state.low + (1 - decay) * low
    state.high = high if state.high is None else decay * state.high + (1 - decay) * high
