"""What a launch needs for a method that needs nothing but its name. Read by ``recipes/*/train.sh``.

python3 -m verl_efficiency.methods.launch verl kimi        →  algorithm.adv_estimator=kimi
python3 -m verl_efficiency.methods.launch openrlhf kimi    →  --efficiency.method kimi
"""

import sys
from collections.abc import Sequence

from verl_efficiency.methods.catalog import ESTIMATORS, REWARDS, Estimator, Method
from verl_efficiency.methods.own import all_estimators, offers
from verl_efficiency.settings import SettingsError, unknown


def arguments(framework: str, name: str) -> list[str]:
    """The arguments that choose the method. A name of both an estimator and a reward is the estimator.

    Raises:
        SettingsError: no method has this name.

    >>> arguments("verl", "t_spmo"), arguments("openrlhf", "lcpo_max")[:1]
    (['algorithm.adv_estimator=t_spmo', 'trainer.v1.trainer_mode=efficiency_sync'], ['REWARD=lcpo_max'])
    >>> arguments("verl", "kimmi")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    verl_efficiency.settings.SettingsError: unknown method 'kimmi'; did you mean 'kimi'? Known: ...
    """
    estimators = all_estimators()
    if name not in estimators and name not in REWARDS:
        raise SettingsError(offers().refused.get(name) or unknown("method", name, {*estimators, *REWARDS}))
    method: Method = estimators[name] if name in estimators else REWARDS[name]
    if framework == "openrlhf":
        stock = ["--efficiency.method", "null", "--algo.advantage.estimator", "group_norm"]
        return ["--efficiency.method", name] if isinstance(method, Estimator) else [f"REWARD={name}", *stock]
    if isinstance(method, Estimator):
        return [f"algorithm.adv_estimator={name}", *["trainer.v1.trainer_mode=efficiency_sync"] * method.trainer]
    return [f"reward.custom_reward_function.name={name}"]


def command(method: Method) -> str:
    """The command that trains with a method of the catalog on verl."""
    if not isinstance(method, Estimator) and method.name in ESTIMATORS:
        return f"bash recipes/verl/train.sh accuracy reward.custom_reward_function.name={method.name}"
    return f"bash recipes/verl/train.sh {method.name}"


def main(argv: Sequence[str]) -> int:
    """Print the arguments, one on a line; without a name, the names."""
    framework, *name = argv
    try:
        print("\n".join(arguments(framework, name[0]) if name and name[0] else sorted({*all_estimators(), *REWARDS})))
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
