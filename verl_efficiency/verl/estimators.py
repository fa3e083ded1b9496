"""verl's advantage estimators of our methods: ``algorithm.adv_estimator=<name>``, settings under ``algorithm.efficiency``.

verl calls an estimator on the driver, at ``trainer/ppo/ray_trainer.py:280`` (0.9.1), with the token-level rewards (the score at
the last token), the response mask, the ``algorithm`` node and the uids. Every row counts as a rollout: of agent loops with
several outputs per session verl keeps only the last one for its own ``grpo``.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from verl_efficiency.methods.catalog import Estimator
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.own import all_estimators
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import MethodSettings
from verl_efficiency.verl import run
from verl_efficiency.verl.checks.concern import ALIAS

logger = logging.getLogger("verl_efficiency")


def register(core_algos: Any) -> None:
    """Register every estimator of the catalog, and of other packages, under its name and under ``efficiency.<name>``.

    Where somebody else has registered a name already, it stays theirs and a warning says so.
    """
    for method in all_estimators().values():
        estimator = _Yielding(method.name, make_estimator(method))
        for name in (ALIAS + method.name, method.name):
            if name in core_algos.ADV_ESTIMATOR_REGISTRY:
                owner = core_algos.ADV_ESTIMATOR_REGISTRY[name]
                logger.warning(
                    "the advantage estimator %r is registered already, by %s: algorithm.adv_estimator=%s is not ours%s",
                    *(name, getattr(owner, "__module__", owner), name),
                    "." if name.startswith(ALIAS) else f"; {ALIAS}{name} is ours.",
                )
            else:
                core_algos.register_adv_est(name)(estimator)


def read_settings(method: Estimator, algorithm: Any) -> MethodSettings:
    """The settings of ``method`` from verl's ``algorithm`` node.

    verl's own switch counts too: with ``algorithm.norm_adv_by_std_in_grpo=False`` the group advantage ``grpo`` is ``dr_grpo``.
    """
    given = algorithm.get("efficiency") if algorithm is not None else None
    settings = method.build_settings(given, where="algorithm.efficiency")
    if algorithm is not None and not algorithm.get("norm_adv_by_std_in_grpo", True) and settings.advantage == "grpo":
        settings = method.build_settings({**(given or {}), "advantage": "dr_grpo"}, where="algorithm.efficiency")
    return settings


class _Yielding:
    """``function``, which gives its name in verl's registry up to whoever registers the same name later.

    That is a run which does not use ours, and verl would refuse it unless the two compare equal (core_algos.py:127). So this
    compares equal to everything, with a warning. ``efficiency.<name>`` stays ours.
    """

    def __init__(self, name: str, function: Callable[..., tuple[Tensor, Tensor]]) -> None:
        functools.update_wrapper(self, function)
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self.__wrapped__(*args, **kwargs)  # type: ignore[attr-defined]

    def __eq__(self, other: object) -> bool:
        if other is not self:
            logger.warning(
                "%s registers the advantage estimator %r, which takes the place of ours; algorithm.adv_estimator=%s%s is ours.",
                *(getattr(other, "__module__", other), self.name, ALIAS, self.name),
            )
        return True

    __hash__ = object.__hash__


def make_estimator(method: Estimator) -> Callable[..., tuple[Tensor, Tensor]]:
    """``method`` as verl calls it."""

    @torch.no_grad()
    def estimator(
        token_level_rewards: Tensor, response_mask: Tensor, index: np.ndarray, config: Any = None, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Advantages and returns, both (B, L), from rewards (B, L), mask (B, L) and uids (B,)."""
        settings = read_settings(method, config)
        rollouts = build_rollouts(
            token_level_rewards.sum(-1),
            response_mask.sum(-1),
            index,
            method,
            settings,
            run.current_step(),
            response_mask,
        )
        outcome = method.function()(rollouts, settings, run.state_of(method))
        run.report(method, outcome.metrics)
        advantages_BL = _spread(outcome, response_mask)
        return advantages_BL, advantages_BL

    return estimator


def build_rollouts(
    scores_B: Tensor,
    lengths_B: Tensor,
    uids_B: np.ndarray,
    method: Estimator,
    settings: MethodSettings,
    step: run.Step | None,
    mask_BL: Tensor | None = None,
) -> Rollouts:
    """The batch as the method is given it; ``mask_BL`` is the response mask, for methods that count turns."""
    rollouts = Rollouts.build(
        scores_B,
        lengths_B,
        uids_B,
        correct_threshold=settings.correct_threshold,
        real_B=~_padding(uids_B, lengths_B),
    )
    return run.complete(rollouts, settings, run.state_of(method), step, mask_BL)


def _padding(index: np.ndarray, lengths_B: Tensor) -> Tensor:
    """(B,) bool: the rows that ``trainer/ppo/padding_utils.py`` makes (empty mask, uid ``pad…``); other empty rows are real."""
    padding_B = torch.zeros_like(lengths_B, dtype=torch.bool)
    for row in (lengths_B == 0).nonzero().flatten().tolist():
        padding_B[row] = str(index[row]).startswith("pad")
    return padding_B


def _spread(outcome: Outcome, response_mask: Tensor) -> Tensor:
    """(B, L) float32: each rollout's advantage on its response tokens, times their weights if it has any, 0 elsewhere."""
    if outcome.token_weights is None:
        weights_BL = response_mask.to(torch.float32, copy=True)
    else:
        weights_BL = outcome.token_weights(response_mask)
    return weights_BL.mul_(outcome.advantages_B.float()[:, None])
