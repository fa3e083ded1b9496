"""Numbers for the log of a framework."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def console_line(method: str, metrics: Mapping[str, float]) -> str:
    """One line for a log that has no other place for them.

    >>> console_line("kimi", {"solve_rate": 0.5, "tokens": 1234.5678})
    '[kimi] solve_rate=0.5 tokens=1235'
    """
    return f"[{method}] " + " ".join(f"{name}={value:.4g}" for name, value in metrics.items())


def reward_means(infos: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The mean of every number that the reward returned, as ``reward/<name>``.

    Args:
        infos: per rollout, what the reward returned beside the score; texts are passed over.

    A reward that raised returns fewer numbers. The mean is then over the rollouts that have the number, and
    ``reward/<name>_given`` is their share.

    >>> reward_means([{"acc": 1.0, "form": True}, {"acc": 0.0}])
    {'reward/acc': 0.5, 'reward/form': 1.0, 'reward/form_given': 0.5}
    """
    values: dict[str, list[float]] = defaultdict(list)
    for info in infos:
        for name, value in info.items():
            if isinstance(value, bool | int | float | np.number | np.bool_):
                values[name].append(float(value))
    means = {}
    for name, given in sorted(values.items()):
        means[f"reward/{name}"] = float(np.mean(given))
        if len(given) < len(infos):
            means[f"reward/{name}_given"] = len(given) / len(infos)
    return means
