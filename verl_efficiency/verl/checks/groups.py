"""Groups of rollouts: which ones ``algorithm.filter_groups`` drops, and groups of one rollout."""

from collections.abc import Iterator
from typing import Any

from verl_efficiency.adapter.checks import learns_where_all_are_right
from verl_efficiency.methods.catalog import Estimator, Method
from verl_efficiency.settings import nearest
from verl_efficiency.verl.checks.extras import known_extras
from verl_efficiency.verl.checks.reward import OurReward, reward_of
from verl_efficiency.verl.modes import SYNC, mode_of

SAMPLER = "trainer.v1.sampler.custom_sampler"
OURS = "pkg://verl_efficiency.verl.sampler"
KEEP_SOLVED = (
    f"algorithm.filter_groups.metric=acc {SAMPLER}.path={OURS} {SAMPLER}.name=KeepSolvedGroups, which drops only groups where "
    "every rollout is wrong"
)
# verl's own estimators that compare the rollouts of a prompt.
GROUP_ESTIMATORS = (
    *("grpo", "grpo_vectorized", "grpo_passk", "gdpo", "rloo", "rloo_vectorized", "opo", "gpg"),
    "reinforce_plus_plus_baseline",
)


def check_filter(config: Any) -> Iterator[str]:
    """Settings that stop verl's group filter or leave it without effect. verl reports them after a generation, or never."""
    groups = config.algorithm.get("filter_groups") or {}
    custom, trainer = _sampler(config), config.trainer
    where = "algorithm.filter_groups"
    if not groups.get("enable", False):
        if custom.get("name") == "KeepSolvedGroups":
            yield f"{SAMPLER}.name: KeepSolvedGroups drops nothing without the filter; write {where}.enable=True"
        return
    if not trainer.get("use_v1", False):
        yield f"{where}.enable: only the V1 trainer filters groups; write trainer.use_v1=True (verl>=0.9)"
        return
    mode = mode_of(trainer)
    if custom.get("name") == "KeepSolvedGroups" and mode not in ("sync", SYNC):
        yield f"{SAMPLER}.name: KeepSolvedGroups is for the synchronous trainers; write trainer.v1.trainer_mode=sync"
    metric = groups.get("metric")
    extras = known_extras(config)
    numbers = None if extras is None else sorted(key for key, value in extras.items() if not isinstance(value, str))
    if metric is None:
        yield f"{where}.metric: must be set; write {where}.metric=acc"
    elif numbers is not None and metric != "reward" and metric not in numbers:
        guess = "" if "acc" in numbers else nearest(str(metric), numbers)
        yield (f"{where}.metric: the reward returns no number {metric!r}, so the run would end after the first generation"
               f"{guess}; write {where}.metric={'acc' if 'acc' in numbers else 'reward'} (numbers of this reward: "
               f"{', '.join(numbers)})")  # fmt: skip


def advise(config: Any, method: Estimator | None) -> Iterator[str]:
    """Warnings: the settings are valid, but some groups teach nothing. ``method`` is the estimator, if it is one of ours."""
    reward = reward_of(config)
    if config.actor_rollout_ref.rollout.get("n", 1) == 1:
        yield from _alone(config, method, reward)
    groups = config.algorithm.get("filter_groups") or {}
    if not groups.get("enable", False):
        return
    metric = groups.get("metric")
    by_score = metric in ("reward", "score")
    if by_score and reward is not None and reward.settings.ranks_wrong:
        yield (f"algorithm.filter_groups.metric: {reward.method.name} gives wrong answers different scores, so with "
               f"metric={metric} groups where every rollout is wrong stay in; write {KEEP_SOLVED}")  # fmt: skip
        return
    from verl_efficiency.verl.checks.estimator import settings_of

    learner: Method | None = method
    if method is None or not learns_where_all_are_right(method, settings_of(method, config)):
        learner = None
    if learner is None and reward is not None and reward.settings.ranks_correct and not by_score:
        learner = reward.method
    if learner is not None and _sampler(config).get("name") != "KeepSolvedGroups":
        yield (f"algorithm.filter_groups.enable: metric={metric} drops groups where every rollout is correct, and "
               f"{learner.name} learns most from them; write {KEEP_SOLVED}")  # fmt: skip


def hand_filter_to_sampler(config: Any) -> None:
    """Give our sampler the arguments of the group filter. verl passes them only to its own sampler."""
    from omegaconf import open_dict

    groups: Any = config.algorithm.get("filter_groups") or {}
    ours = str(_sampler(config).get("path")).startswith("pkg://verl_efficiency.verl.")
    if not ours or not groups.get("enable", False):
        return
    given = dict(config.trainer.v1.sampler.get("sampler_kwargs") or {})
    with open_dict(config.trainer.v1.sampler):
        config.trainer.v1.sampler.sampler_kwargs = {
            "filter_groups_metric": groups.metric,
            "train_batch_size": config.data.train_batch_size,
            "gen_batch_size": 1,
            "max_inflight_gen_batches": groups.get("max_inflight_gen_batches", 1),
            **given,
        }


def _alone(config: Any, method: Estimator | None, reward: OurReward | None) -> Iterator[str]:
    where = "actor_rollout_ref.rollout.n"
    if method is not None:
        learned = _learned_alone(method)
        yield f"{where}: {method.name} compares the rollouts of a prompt, and with n=1 {learned}; write {where}=8"
    elif reward is not None and config.algorithm.adv_estimator in GROUP_ESTIMATORS:
        yield (f"{where}: {config.algorithm.adv_estimator} compares the rollouts of a prompt, and with n=1 the advantage is "
               f"the score itself: an answer that scores 0 teaches nothing; write {where}=8")  # fmt: skip


def _learned_alone(method: Estimator) -> str:
    if method.name in ("t_spmo", "drpo"):
        return "nothing is learned, because every advantage is 0"
    if method.name in ("sample_routing", "self_distillation"):
        return "no rollout has a correct sibling to learn from"
    return "the advantage is the shaped reward itself"


def _sampler(config: Any) -> Any:
    return ((config.trainer.get("v1") or {}).get("sampler") or {}).get("custom_sampler") or {}
