"""``algorithm.adv_estimator`` and ``algorithm.efficiency``, and that the trainer of our mode is there."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from verl_efficiency.methods.catalog import ESTIMATORS, REWARDS, Method
from verl_efficiency.methods.own import all_estimators, offers
from verl_efficiency.settings import SettingsError, misspelt, nearest, unknown
from verl_efficiency.verl.checks.columns import check_column
from verl_efficiency.verl.checks.concern import ALIAS, meant_estimator
from verl_efficiency.verl.checks.reward import reward_of
from verl_efficiency.verl.checks.trainer import check_trainer
from verl_efficiency.verl.cpu_switch import SWITCH, cpu_mode


def estimator_of(config: Any) -> Method | None:
    """Our method behind ``algorithm.adv_estimator``, or None when it is somebody else's."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    name = str(config.algorithm.adv_estimator)
    ours = getattr(ADV_ESTIMATOR_REGISTRY.get(name), "__module__", None) == "verl_efficiency.verl.estimators"
    return all_estimators()[name.removeprefix("efficiency.")] if ours else None


def settings_of(method: Method, config: Any) -> Any:
    from verl_efficiency.verl.estimators import read_settings

    return read_settings(method, config.algorithm)


def check_mode(trainer: Any) -> Iterator[str]:
    """Our trainer is asked for where it can run, and the CPU where it is switched on."""
    mode = str((trainer.get("v1") or {}).get("trainer_mode"))
    if mode != "efficiency_sync" and misspelt(mode, ["efficiency_sync"]):
        yield f"trainer.v1.trainer_mode: unknown mode {mode!r}; did you mean 'efficiency_sync'?"
    if trainer.get("device") == "cpu" and not cpu_mode():
        yield f"trainer.device: cpu needs CPU mode; run `export {SWITCH}=cpu` before the launch (verl 0.9.1)"
    if mode == "efficiency_sync" and not trainer.get("use_v1", False):
        yield "trainer.use_v1: trainer.v1.trainer_mode=efficiency_sync is ignored without the V1 trainer; set it to True"


def _not_registered(name: str, known: set[str]) -> str | None:
    """The message for an estimator of ours that is misspelt or missing; None for a name that somebody may register later."""
    where = "algorithm.adv_estimator"
    if name.removeprefix(ALIAS) in all_estimators():
        return f"{where}: {name} is not registered in this process; `verl-efficiency doctor` says why"
    if name.startswith(ALIAS) or meant_estimator(name):
        alike = [other for other in known if other.startswith(ALIAS) == name.startswith(ALIAS)]
        return f"{where}: {unknown('estimator', name, alike)}"
    reward = misspelt(name, REWARDS)
    if reward:
        overrides = ("path=pkg://verl_efficiency.rewards", f"name={reward}")
        written = " ".join(f"reward.custom_reward_function.{override}" for override in overrides)
        return (
            f"{where}: unknown estimator {name!r}; {reward} is a reward: write algorithm.adv_estimator=grpo {written}"
        )
    return None


def _methods_with(keys: Sequence[str]) -> list[str]:
    """The estimators that have all these settings."""
    return [
        name
        for name, method in ESTIMATORS.items()
        if set(keys) <= {field.name for field in dataclasses.fields(method.settings_class())}
    ]


def _elsewhere(method: Method, given: Any) -> str:
    """What to add to an error about a setting that ``method`` does not have and other estimators do."""
    try:
        own = [field.name for field in dataclasses.fields(method.settings_class())]
    except SettingsError:  # the method of another package that cannot be loaded, which is the error to add to
        return ""
    for key in given if isinstance(given, Mapping) else ():
        if key not in own and not nearest(str(key), own) and _methods_with([str(key)]):
            return f" ({key!r} is a setting of {', '.join(_methods_with([str(key)]))})"
    return ""


def check_estimator(config: Any) -> Iterator[str]:
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, AdvantageEstimator

    algorithm = config.algorithm
    name = str(algorithm.adv_estimator)
    known = {*ADV_ESTIMATOR_REGISTRY, *(estimator.value for estimator in AdvantageEstimator)}
    if name not in known and name in offers().refused:
        yield f"algorithm.adv_estimator: {offers().refused[name]}"
        return
    if name not in known:
        problem = _not_registered(name, known)
        if problem:
            yield problem
            return
    method = estimator_of(config)
    given = algorithm.get("efficiency")
    if method is None:
        if given:
            keys = list(given) if isinstance(given, Mapping) else [str(given)]
            yield (f"algorithm.efficiency: {', '.join(keys)} would be ignored, because algorithm.adv_estimator={name} is not"
                   f" ours; set it to one of {', '.join(_methods_with(keys) or ESTIMATORS)}")  # fmt: skip
        return
    try:
        settings = settings_of(method, config)
    except SettingsError as error:
        yield f"{error}{_elsewhere(method, given)}"
        return
    if algorithm.get("use_kl_in_reward"):
        yield (f"algorithm.use_kl_in_reward: {method.name} reads correctness from the score, which a KL penalty inside the "
               "reward changes; use actor_rollout_ref.actor.use_kl_loss=True instead")  # fmt: skip
    if (algorithm.get("rollout_correction") or {}).get("rollout_rs"):
        yield (f"algorithm.rollout_correction.rollout_rs: {method.name} counts response tokens, and rejection sampling removes "
               "rejected ones from the mask; leave it null")  # fmt: skip
    yield from _check_counts(method, settings, config.trainer)
    needs_rows = settings.columns or settings.names_prompts
    if needs_rows and not config.trainer.get("use_v1", False):
        other = "; difficulty=group does without" if hasattr(settings, "difficulty") else ""
        yield (f"trainer.use_v1: {method.name} with these settings reads the data set's columns at the advantage step, which "
               f"only the V1 trainer keeps (verl>=0.9 with trainer.use_v1=True){other}")  # fmt: skip
    if settings.needs_trainer:
        yield from check_trainer(method, settings, config)
    for role, path in settings.columns.items():
        yield from check_column(config.data.train_files, path, f"algorithm.efficiency.{role}_column")


def advise_on_budget(config: Any) -> Iterator[str]:
    """A budget, of the estimator or of the reward, that no response can exceed."""
    method, reward = estimator_of(config), reward_of(config)
    found = [("algorithm.efficiency", settings_of(method, config))] if method else []
    if reward:
        found.append(("reward.custom_reward_function.reward_kwargs", reward[0].build_settings(reward[1], "")))
    limit = config.data.max_response_length
    for where, settings in found:
        least = getattr(settings, "b_min", None)
        if least is not None and least >= limit:
            yield (f"{where}.b_min: the smallest budget, {least:g} tokens, is not below data.max_response_length={limit}, so "
                   f"no response can exceed its budget and no token is ever penalised; set it below {limit}")  # fmt: skip


def _check_counts(method: Method, settings: Any, trainer: Any) -> Iterator[str]:
    """The trainer can hand over what the method counts."""
    mode, v1 = (trainer.get("v1") or {}).get("trainer_mode"), trainer.get("use_v1", False)
    if "thinking" in settings.parts and not (v1 and mode == "efficiency_sync"):
        yield (f"trainer.v1.trainer_mode: {method.name} with these settings counts thinking tokens, for which it needs the "
               "tokens of the responses; set efficiency_sync (verl>=0.9 with trainer.use_v1=True; `verl-efficiency train` "
               f"sets it), not {mode}{_other_cost(settings)}")  # fmt: skip
    if "context" in settings.parts and not v1:
        yield (f"trainer.use_v1: {method.name} with these settings counts the tokens of the prompts, which only the V1 trainer "
               f"keeps (verl>=0.9 with trainer.use_v1=True){_other_cost(settings)}")  # fmt: skip


def _other_cost(settings: Any) -> str:
    if getattr(settings, "context_weight", 0):
        return "; or set algorithm.efficiency.context_weight=0, which is the same where there are no tools"
    return "; algorithm.efficiency.cost=generated does without" if settings.cost != "generated" else ""
