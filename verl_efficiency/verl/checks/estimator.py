"""``algorithm.adv_estimator`` and ``algorithm.efficiency``."""

from collections.abc import Iterator, Mapping
from typing import Any

from verl_efficiency.adapter import checks
from verl_efficiency.methods.catalog import ESTIMATORS, Estimator
from verl_efficiency.methods.own import all_estimators
from verl_efficiency.settings import SettingsError, misspelt, unknown
from verl_efficiency.verl.checks.columns import check_column
from verl_efficiency.verl.checks.concern import ALIAS
from verl_efficiency.verl.checks.reward import FUNCTION, KWARGS, reward_of
from verl_efficiency.verl.checks.trainer import check_trainer
from verl_efficiency.verl.cpu_switch import SWITCH, cpu_mode
from verl_efficiency.verl.hdfs import check_remote
from verl_efficiency.verl.modes import MODES, SYNC, mode_of, ours_of, v1_is_missing

SETTINGS = "algorithm.efficiency"
ONE_OUTPUT_LOOPS = ("single_turn_agent", "tool_agent")  # verl's own
_V1 = "verl>=0.9 with trainer.use_v1=True"


def estimator_of(config: Any) -> Estimator | None:
    """Our method behind ``algorithm.adv_estimator``, or None for other people's."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    name = str(config.algorithm.adv_estimator)
    ours = getattr(ADV_ESTIMATOR_REGISTRY.get(name), "__module__", None) == "verl_efficiency.verl.estimators"
    return all_estimators()[name.removeprefix(ALIAS)] if ours else None


def settings_of(method: Estimator, config: Any) -> Any:
    """The settings of ``method`` in a run."""
    from verl_efficiency.verl.estimators import read_settings

    return read_settings(method, config.algorithm)


def check_mode(trainer: Any) -> Iterator[str]:
    """A misspelt trainer mode, our mode without V1, a verl without V1, or a run on the CPU without CPU mode."""
    mode = str(mode_of(trainer))
    if (trainer.get("v1") or trainer.get("use_v1")) and (problem := v1_is_missing()):
        yield f"trainer.v1: {problem}"
        return
    if mode not in MODES and (meant := misspelt(mode, MODES)):
        yield f"trainer.v1.trainer_mode: unknown mode {mode!r}; did you mean {meant!r}?"
    if trainer.get("device") == "cpu" and not cpu_mode():
        yield f"trainer.device: cpu needs CPU mode; run `export {SWITCH}=cpu` before the launch (verl 0.9.1)"
    if mode in MODES and not trainer.get("use_v1", False):
        yield f"trainer.use_v1: the V0 trainer ignores trainer.v1.trainer_mode={mode}; set it to True"


def check_estimator(config: Any) -> Iterator[str]:
    """The estimator exists, its settings are right, and the rest of the configuration gives it what it needs."""
    algorithm = config.algorithm
    if problem := _not_registered(str(algorithm.adv_estimator)):
        yield f"algorithm.adv_estimator: {problem}"
        return
    method, given = estimator_of(config), algorithm.get("efficiency")
    if method is None:
        if given:
            keys = list(given) if isinstance(given, Mapping) else [str(given)]
            yield (f"{SETTINGS}: {', '.join(keys)} would be ignored, because algorithm.adv_estimator={algorithm.adv_estimator} "
                   f"is not ours; set it to one of {', '.join(checks.methods_with(keys) or ESTIMATORS)}")  # fmt: skip
        return
    try:
        checks.build_settings(method, given, SETTINGS)
        settings = settings_of(method, config)
    except SettingsError as error:
        yield str(error)
        return
    yield from checks.check_limit(method, given, settings, config.data.max_response_length, SETTINGS)
    if algorithm.get("use_kl_in_reward"):
        yield (f"algorithm.use_kl_in_reward: {method.name} reads correctness from the score, which a KL penalty inside the "
               "reward changes; use actor_rollout_ref.actor.use_kl_loss=True instead")  # fmt: skip
    if (algorithm.get("rollout_correction") or {}).get("rollout_rs"):
        yield (f"algorithm.rollout_correction.rollout_rs: {method.name} counts response tokens, and rejection sampling takes "
               "rejected ones out of the mask; leave it null")  # fmt: skip
    yield from _check_counts(method, settings, config.trainer)
    if (settings.columns or settings.names_prompts) and not config.trainer.get("use_v1", False):
        other = "; difficulty=group does without" if hasattr(settings, "difficulty") else ""
        yield (f"trainer.use_v1: {method.name} with these settings reads columns of the data set at the advantage step, and "
               f"only the V1 trainer keeps them ({_V1}){other}")  # fmt: skip
    yield from check_trainer(method, settings, config)
    yield from check_remote(method, settings, config.trainer)
    for role, path in settings.columns.items():
        yield from check_column(config.data.train_files, path, f"{SETTINGS}.{role}_column")


def _not_registered(name: str) -> str | None:
    """Why verl does not know one of our estimators; None for other people's, which may be registered later."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, AdvantageEstimator

    known = {*ADV_ESTIMATOR_REGISTRY, *(estimator.value for estimator in AdvantageEstimator)}
    if name in known:
        return None
    ours = name.removeprefix(ALIAS)
    if ours in all_estimators():
        return f"{name} is not registered in this process; `verl-efficiency doctor` says why"
    alike = [other for other in known if other.startswith(ALIAS) == name.startswith(ALIAS)]
    problem = checks.wrong_method(name, "estimator", alike, _reward_override)
    return problem or (unknown("estimator", name, alike) if name.startswith(ALIAS) else None)


def _reward_override(reward: str) -> str:
    return f"algorithm.adv_estimator=grpo {FUNCTION}.path=pkg://verl_efficiency.rewards {FUNCTION}.name={reward}"


def advise_on_budget(config: Any) -> Iterator[str]:
    """Settings of the estimator or of the reward that no response reaches, or that keep every rollout."""
    method, reward = estimator_of(config), reward_of(config)
    found: list[tuple[str, Any]] = [(SETTINGS, settings_of(method, config))] if method else []
    if reward:
        terms = reward.settings.read() if reward.method.name == "composition" else []
        found += [(KWARGS, reward.settings), *((f"{KWARGS}.terms[{n}]", term.settings) for n, term in enumerate(terms))]
    for where, settings in found:
        yield from checks.check_budget(settings, config.data.max_response_length, where, "data.max_response_length")
        yield from checks.check_keep(settings, config.actor_rollout_ref.rollout.n, where, "actor_rollout_ref.rollout.n")


def advise_on_aggregation(config: Any) -> Iterator[str]:
    """A line if the paper's loss takes another mean over the tokens than the run does."""
    method, mode = estimator_of(config), config.actor_rollout_ref.actor.loss_agg_mode
    published = settings_of(method, config).aggregation if method else None
    if method and published and mode != published:
        where = "actor_rollout_ref.actor.loss_agg_mode"
        yield f"{where}: {method.name} is published with {published}, and this run has {mode}; write {where}={published}"


def advise_on_staleness(config: Any) -> Iterator[str]:
    """A line if a self-teacher learns from rollouts of older weights, and nothing corrects for that."""
    method, mode = estimator_of(config), mode_of(config.trainer)
    if (
        method is None
        or mode not in MODES
        or mode == SYNC
        or not checks.has_teacher(method, settings_of(method, config))
    ):
        return
    if not (config.algorithm.get("rollout_correction") or {}).get("rollout_is"):
        where = "algorithm.rollout_correction.rollout_is"
        yield f"{where}: with {mode}, {method.name} learns from rollouts of older weights; {where}=token corrects for that"


def advise_on_loop(config: Any) -> Iterator[str]:
    """A line if a loop of the user's own may return several outputs per session, and the method takes one."""
    method = estimator_of(config)
    agent = config.actor_rollout_ref.rollout.get("agent") or {}
    loop, file = agent.get("default_agent_loop"), agent.get("agent_loop_config_path")
    reason = settings_of(method, config).single_output if method else ""
    if method and reason and (file or loop not in ONE_OUTPUT_LOOPS):
        where = "agent_loop_config_path" if file else "default_agent_loop"
        yield (f"actor_rollout_ref.rollout.agent.{where}: if this agent loop returns several outputs per session, the run "
               f"ends at the first step: {reason}")  # fmt: skip


def _check_counts(method: Estimator, settings: Any, trainer: Any) -> Iterator[str]:
    """A line if the method counts tokens that the trainer does not keep."""
    mode, v1 = mode_of(trainer), trainer.get("use_v1", False)
    other = (
        "; or set algorithm.efficiency.cost=generated" if getattr(settings, "cost", "generated") != "generated" else ""
    )
    if getattr(settings, "context_weight", 0):
        other = "; or set algorithm.efficiency.context_weight=0, which changes nothing without tools"
    if "thinking" in settings.parts and not (v1 and mode in MODES):
        right = ours_of(mode)
        yield (f"trainer.v1.trainer_mode: {method.name} with these settings counts thinking tokens, so it needs the tokens of "
               f"the responses; set {right} ({_V1}; `verl-efficiency train` sets {SYNC}), not {mode}{other}")  # fmt: skip
    if "context" in settings.parts and not v1:
        yield (f"trainer.use_v1: {method.name} with these settings counts prompt tokens, which only the V1 trainer keeps "
               f"({_V1}){other}")  # fmt: skip
