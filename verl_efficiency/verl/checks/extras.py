"""The extras of a reward function: what it returns for every sample beside the score.

Ours are known. Your own function declares them in the attribute ``my_reward.extras``, see ``reward_manager.py``.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from verl_efficiency.settings import SettingsError
from verl_efficiency.verl.checks.reward import reward_of


def extras_of(compute_score: Any) -> dict[str, Any] | None:
    """Extras and their values for a sample that cannot be scored; None if the function does not declare them.

    verl passes ``functools.partial(call, function, settings)``, or its own function as it is.

    Raises:
        SettingsError: the function declares something other than a mapping.
    """
    from verl_efficiency.rewards.base import RewardSettings  # the grader, which the plugin must not load

    function, *settings = getattr(compute_score, "args", None) or (compute_score,)
    ours = getattr(function, "settings", None)
    if isinstance(ours, type) and issubclass(ours, RewardSettings):
        return dict(ours.build(dict(*settings), "reward_kwargs").extras)
    declared = getattr(function, "extras", None)
    if declared is not None and not isinstance(declared, Mapping):
        raise SettingsError(f"{function.__name__}.extras: must map each name to its value for a sample that cannot be scored, "
                            f"got {declared!r}")  # fmt: skip
    return None if declared is None else dict(declared)


def known_extras(config: Any) -> dict[str, Any] | None:
    """The extras of the run's reward, if they are known without importing your own function."""
    function = config.reward.get("custom_reward_function") or {}
    reward = reward_of(config)
    if reward is not None:
        return dict(reward.settings.extras)
    if function.get("path") is None and config.reward.reward_manager.name in ("naive", "efficiency"):
        return {"acc": 0.0, "score": 0.0}  # verl's own scores are numbers, or dicts with both
    return None


def advise_to_declare(config: Any) -> Iterator[str]:
    """The V0 trainer needs the same extras for every sample, so your own function has to declare them."""
    function: Any = config.reward.get("custom_reward_function") or {}
    manager = config.reward.reward_manager.name
    if config.trainer.get("use_v1", False) or manager != "efficiency" or not function.get("path") or reward_of(config):
        return
    from verl.trainer.ppo.reward import get_custom_reward_fn

    try:
        declared = extras_of(get_custom_reward_fn(config))
    except Exception as error:  # noqa: BLE001  # the function is the user's; verl reports more when it loads it
        yield f"reward.custom_reward_function.path: {function.path} cannot be imported here: {type(error).__name__}: {error}"
        return
    if declared is None:
        yield ("reward.custom_reward_function.name: verl's V0 trainer needs the same extras for every sample, so an error "
               "before the first result ends the run; write trainer.use_v1=True, or below the function "
               f"{function.name}.extras = {{name: value of a sample that cannot be scored, …}}")  # fmt: skip
