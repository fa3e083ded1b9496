"""Finds known faults in a run's log. Each rule is one function: it returns the evidence, or None without the fault.

*Early* and *late* are the first and the last third of the steps. A change counts if it is larger than two standard errors of
the difference, taken from the spread between steps. A rule whose metrics are not logged raises :class:`NotLogged`, which names
them. The names of metrics differ between frameworks: ``SERIES`` lists them, the most exact one first.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from verl_efficiency.evaluation.run_log import RunLog

SCORES = (r"critic/score/mean", r"rollout/reward_mean", r"reward", r"val-core/.*/reward/mean@\d+")
LEAST_STEPS = 5  # for a rule that compares early with late
SERIES = {
    "accuracy": (
        *(r"reward/acc", r"\w+/solve_rate", r"val-core/.*/acc/mean@\d+"),
        *SCORES,  # from log.scores[0] to log.scores[1]
    ),
    "tokens": (r"response_length/mean", r"rollout/response_length_mean", r"response_length"),
    "entropy": (r"actor/entropy", r"entropy_loss"),
    "unsolved_share": (r"\w+/unsolved_share",),
    "over_budget": (r"\w+/over_budget",),
    "reward_error": (r"reward/reward_error", r"rollouts/reward_error", r"val-\w+/.*reward_error/mean.*"),
}

# The thresholds of the rules, each used in the function of its name
SHORTER, ACCURACY_LOST = 0.8, 0.05  # late tokens over early ones; accuracy, early minus late
LONGER, ACCURACY_GAINED = 1.4, 0.02
TRUNCATED, TRUNCATED_MORE = 0.25, 0.10  # late share of responses at the limit; late minus early
EQUAL_STEPS, EQUAL_GROUPS = 0.5, 0.9  # share of steps without any advantage; mean share of groups with equal scores
UNSOLVED = 0.2  # mean share of the update
ENTROPY, SOLVED = 0.3, 0.9  # late entropy over early; late accuracy of a run that has learned
TIMED_OUT_LINES, TIMED_OUT_SHARE = 3, 0.002
IDLE = 0.01  # mean share of rollouts that are correct and over their budget


class NotLogged(Exception):
    """The run does not log what a rule needs; the message names it."""


@dataclass(frozen=True)
class Rule:
    """A fault, the test for it, and what to change."""

    name: str
    test: Callable[[RunLog], str | None]
    fix: str


@dataclass(frozen=True)
class Finding:
    """A fault that a run has: the rule's name, the numbers that show it, and what to change."""

    name: str
    evidence: str
    fix: str


@dataclass(frozen=True)
class Diagnosis:
    """The faults found, and for each rule that could not be applied what it needs."""

    findings: list[Finding]
    unchecked: dict[str, str]


def diagnose(log: RunLog) -> Diagnosis:
    """Apply every rule to a run."""
    findings, unchecked = [], {}
    for rule in RULES:
        try:
            evidence = rule.test(log)
        except NotLogged as error:
            unchecked[rule.name] = str(error)
        else:
            if evidence is not None:
                findings.append(Finding(rule.name, evidence, rule.fix))
    return Diagnosis(findings, unchecked)


def series(log: RunLog, name: str) -> np.ndarray:
    """(T,) the values of a metric, by step.

    Raises:
        NotLogged: no step has it.
    """
    known = [(pattern, found) for pattern in SERIES[name] if (found := log.series(pattern))]
    if not known:
        raise NotLogged(" or ".join(SERIES[name]).replace("\\w+", "*"))
    often = [one for one in known if len(one[1]) >= LEAST_STEPS]  # validation may be rare
    pattern, found = (often or known)[0]
    values_T = np.array([value for _, value in found])
    wrong, correct = log.scores
    return (values_T - wrong) / (correct - wrong) if pattern in SCORES else values_T


@dataclass(frozen=True)
class Change:
    """Means of the first and the last third of a metric, and the noise of their difference (two standard errors)."""

    early: float
    late: float
    noise: float


def change(values_T: np.ndarray) -> Change:
    """Early against late.

    Raises:
        NotLogged: there are fewer than ``LEAST_STEPS`` steps.

    >>> change(np.array([1.0, 1.0, 5.0, 5.0, 2.0, 2.0]))
    Change(early=1.0, late=2.0, noise=0.0)
    """
    if len(values_T) < LEAST_STEPS:
        raise NotLogged(f"{LEAST_STEPS} steps; the log has {len(values_T)}")
    third = max(2, len(values_T) // 3)
    first_T, last_T = values_T[:third], values_T[-third:]
    noise = 2 * math.sqrt((first_T.var(ddof=1) + last_T.var(ddof=1)) / third)
    return Change(float(first_T.mean()), float(last_T.mean()), noise)


def length_collapse(log: RunLog) -> str | None:
    """Late tokens at most ``SHORTER`` times the early ones, and accuracy lower by at least ``ACCURACY_LOST``."""
    tokens, accuracy = change(series(log, "tokens")), change(series(log, "accuracy"))
    lost = accuracy.early - accuracy.late
    if tokens.late <= SHORTER * tokens.early and lost >= max(ACCURACY_LOST, accuracy.noise):
        return f"{_tokens(tokens)}, and {_accuracy(accuracy)}"
    return None


def explosion(log: RunLog) -> str | None:
    """Late tokens at least ``LONGER`` times the early ones, and accuracy not higher by ``ACCURACY_GAINED``."""
    tokens, accuracy = change(series(log, "tokens")), change(series(log, "accuracy"))
    gained = accuracy.late - accuracy.early
    if tokens.late >= LONGER * tokens.early and gained < max(ACCURACY_GAINED, accuracy.noise):
        return f"{_tokens(tokens)}, and {_accuracy(accuracy)}"
    return None


def truncation(log: RunLog) -> str | None:
    """A late share of responses at the limit of at least ``TRUNCATED``, or one that rose by ``TRUNCATED_MORE``."""
    shares = truncated(log)
    if not shares:
        raise NotLogged("response_length/clip_ratio and response_length/max, or rollout/truncated_rate")
    cut = change(np.array([share for _, share in shares]))
    risen = cut.late - cut.early >= max(TRUNCATED_MORE, cut.noise)
    if cut.late >= TRUNCATED or risen:
        return f"{_percent(cut.early)} of the responses reach the token limit early, {_percent(cut.late)} late"
    return None


def truncated(log: RunLog) -> list[tuple[int, float]]:
    """``[(step, share), …]`` of the responses that reach the token limit; empty if the run does not log it.

    verl's ``response_length/clip_ratio`` is the share of responses as long as the longest of the batch. So it counts only in
    steps whose longest response reaches the limit: the one that the console shows, else the longest of the run.
    """
    known = log.series("rollout/truncated_rate")
    if known:
        return known
    finished, failed = log.series("reward/finished"), dict(log.series("reward/reward_error"))
    if finished:  # a reward that raised says neither
        return [(step, 1 - value - failed.get(step, 0.0)) for step, value in finished]
    clipped, longest = log.series("response_length/clip_ratio"), dict(log.series("response_length/max"))
    if not longest:
        return []
    limit = log.limit or max(longest.values())
    return [(step, share if longest.get(step, 0) >= limit else 0.0) for step, share in clipped]


def equal_groups(log: RunLog) -> str | None:
    """No advantage at all in at least ``EQUAL_STEPS`` of the steps, or nearly all groups equal and no length term."""
    highest, lowest = dict(log.series("critic/advantages/max")), dict(log.series("critic/advantages/min"))
    spread = {step: value - lowest.get(step, 0.0) for step, value in highest.items()}
    if not spread:
        spread = dict(log.series("rollout/reward_std"))
    equal = [value for _, value in log.series("rollouts/equal_groups")]
    if not spread and not equal:
        raise NotLogged("critic/advantages/max and critic/advantages/min, or rollout/reward_std, or rollout dumps")
    without = float(np.mean([value < 1e-6 for value in spread.values()])) if spread else 0.0
    if without >= EQUAL_STEPS:
        return f"in {_percent(without)} of the steps, every advantage is 0: all groups have equal scores"
    shaped = log.series(r"\w+/length_term")
    if equal and not shaped and np.mean(equal) >= EQUAL_GROUPS:
        return f"{_percent(float(np.mean(equal)))} of the groups have equal scores, so they teach nothing"
    return None


def unsolved_groups(log: RunLog) -> str | None:
    """Groups without a correct rollout make at least ``UNSOLVED`` of the update, by the length of their wrong answers."""
    share = float(series(log, "unsolved_share").mean())
    if share >= UNSOLVED:
        return f"{_percent(share)} of the update (|advantage| x tokens) comes from groups that nobody solved"
    return None


def entropy_collapse(log: RunLog) -> str | None:
    """Late entropy at most ``ENTROPY`` times the early one, and not because the model has learned.

    It has learned if accuracy rose by ``ACCURACY_GAINED`` to ``SOLVED`` or more. Then little is left to explore. A run that
    does not log its accuracy is judged by the entropy alone.
    """
    entropy = change(series(log, "entropy"))
    try:
        accuracy = change(series(log, "accuracy"))
        learned = accuracy.late >= SOLVED and accuracy.late - accuracy.early >= ACCURACY_GAINED
    except NotLogged:
        learned = False
    if entropy.late <= ENTROPY * entropy.early and not learned:
        return f"the entropy of the policy falls from {entropy.early:.3g} to {entropy.late:.3g} nats a token"
    return None


def reward_errors(log: RunLog) -> str | None:
    """Any rollout whose reward raised."""
    found = log.series(*SERIES["reward_error"])
    share = float(np.mean([value for _, value in found])) if found else 0.0
    lines = log.faults["reward error"]
    if share > 0:
        return f"the reward raised for {share:.1%} of the rollouts, which count as wrong"
    if lines:
        return f"{lines} lines of the console say that the reward raised"
    if not found and not log.console:
        raise NotLogged("reward/reward_error (trainer.v1.trainer_mode=efficiency_sync), or the console output")
    return None


def grader_timeouts(log: RunLog) -> str | None:
    """At least ``TIMED_OUT_LINES`` gradings, or ``TIMED_OUT_SHARE`` of them, that took longer than the deadline."""
    shares, lines = [value for _, value in log.series("rollouts/timed_out")], log.faults["grader time-out"]
    if shares and np.mean(shares) >= TIMED_OUT_SHARE:
        return f"{float(np.mean(shares)):.1%} of the gradings timed out, and count as wrong"
    if lines >= TIMED_OUT_LINES:
        return f"{lines} gradings timed out, and count as wrong"
    if not shares and not log.console:
        raise NotLogged("the console output")
    return None


def idle_budget(log: RunLog) -> str | None:
    """On average at most ``IDLE`` of the rollouts are correct and over their budget. Only these pay."""
    over = float(series(log, "over_budget").mean())
    if over <= IDLE:
        return f"{over:.1%} of the rollouts are correct and over their budget, so it changes nothing"
    return None


RULES = (
    Rule(
        "length collapse",
        length_collapse,
        "Lower the length penalty (penalty, weight, alpha), or protect accuracy: +algorithm.efficiency.combine=decoupled, "
        "advantage=dr_grpo, unsolved=leave. OpenRLHF: the same names after --efficiency.",
    ),
    Rule(
        "length explosion",
        explosion,
        "Look for a reward that pays for long or repeated text (reward.custom_reward_function); then use a length method such "
        "as token_budget or overlong.",
    ),
    Rule(
        "truncation",
        truncation,
        "Correct reasoning that is cut off counts as wrong. Raise data.max_response_length (OpenRLHF: "
        "--rollout.max_new_tokens), or pack fewer problems into a prompt.",
    ),
    Rule(
        "all-equal groups",
        equal_groups,
        "Train on problems that the model solves sometimes, raise actor_rollout_ref.rollout.temperature and rollout.n, or drop "
        "such groups: algorithm.filter_groups.enable=True (OpenRLHF: --algo.dynamic_filtering_enable).",
    ),
    Rule(
        "unsolved groups",
        unsolved_groups,
        "Set +algorithm.efficiency.unsolved=leave (OpenRLHF: --efficiency.unsolved leave), and leave out problems that are "
        "never solved: their ground truth may be wrong.",
    ),
    Rule(
        "entropy collapse",
        entropy_collapse,
        "Lower actor_rollout_ref.actor.optim.lr, raise actor.clip_ratio_high (OpenRLHF: --actor.eps_clip_low_high), or set "
        "actor.entropy_coeff to a small positive number (OpenRLHF: --actor.entropy_coef).",
    ),
    Rule(
        "reward errors",
        reward_errors,
        "Look for REWARD ERROR in the console: it names the function, the row and the exception. Fix "
        "reward.custom_reward_function (OpenRLHF: --reward.remote_url).",
    ),
    Rule(
        "grader time-outs",
        grader_timeouts,
        "The console names the answers. Leave out problems whose ground truth takes long to evaluate "
        "(data.train_files), or write the ground truth as a number.",
    ),
    Rule(
        "idle budget",
        idle_budget,
        "Lower +algorithm.efficiency.b_max and b_min, or unset both so that they follow the run. `verl-efficiency calibrate` "
        "fits them to stored rollouts. If the metric budget is above b_max, budget_floor sets the budget: lower that.",
    ),
)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _tokens(tokens: Change) -> str:
    return f"tokens go from {tokens.early:.0f} to {tokens.late:.0f} a response"


def _accuracy(accuracy: Change) -> str:
    return f"the score from {accuracy.early:.3f} to {accuracy.late:.3f}"
