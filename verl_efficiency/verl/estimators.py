"""verl's advantage estimators of our methods: ``algorithm.adv_estimator=<name>``, settings under ``algorithm.efficiency``.

verl 0.9.1 calls an estimator on the driver (``trainer/ppo/ray_trainer.py:280``) with token-level rewards (the score is at the
last token), the response mask, the ``algorithm`` node and the uids. A rollout is a session: if an agent loop returns several
outputs per session, their tokens count together, and each output gets the session's advantage (``sessions.py``).
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from verl_efficiency.adapter.rollouts import Step, build_rollouts, complete, spread
from verl_efficiency.methods.catalog import Estimator
from verl_efficiency.methods.own import all_estimators
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import MethodSettings
from verl_efficiency.verl import run
from verl_efficiency.verl.checks.concern import ALIAS
from verl_efficiency.verl.modes import SYNC

logger = logging.getLogger("verl_efficiency")


def register(core_algos: Any) -> None:
    """Register every estimator, of the catalog and of other packages, as ``<name>`` and as ``efficiency.<name>``.

    A name that somebody else has registered already stays theirs, and a warning says so.
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
    """``function``, which gives up its name in verl's registry to whoever registers the same name later.

    Such a run uses the other function, but verl refuses a second registration unless the two compare equal
    (core_algos.py:127). So this compares equal to everything, and warns. ``efficiency.<name>`` stays ours.
    """

    def __init__(self, name: str, function: Callable[..., tuple[Tensor, Tensor]]) -> None:
        functools.update_wrapper(self, function)
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self.__wrapped__(*args, **kwargs)  # type: ignore[attr-defined]

    def __eq__(self, other: object) -> bool:
        if other is not self:
            logger.warning(
                "%s registers the advantage estimator %r, which replaces ours; algorithm.adv_estimator=%s%s is ours.",
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
        step = replace(run.current_step(), mask_BL=response_mask)
        # verl's mask is int64, so reading it takes time. Its copy in float32 gives the lengths and becomes the advantages.
        mask_RL = response_mask if settings.weighs_tokens else response_mask.to(torch.float32, copy=True)
        scores_R, lengths_R = token_level_rewards.sum(-1), mask_RL.sum(-1).long()
        rollouts = rollouts_of(scores_R, lengths_R, index, method, settings, step)
        outcome = method.function()(rollouts, settings, run.state_of(method))
        run.report(method, outcome.metrics)
        whole = outcome.token_weights is None and not settings.weighs_tokens
        advantages_RL = spread(outcome, mask_RL if whole else response_mask, step.sessions, overwrite=whole)
        return advantages_RL, advantages_RL

    return estimator


def rollouts_of(
    scores_R: Tensor,
    lengths_R: Tensor,
    uids_R: np.ndarray,
    method: Estimator,
    settings: MethodSettings,
    step: Step,
) -> Rollouts:
    """A batch of verl, one row per output, as ``method`` takes it.

    Raises:
        RuntimeError: the method needs our trainer, or takes one output per session.
    """
    needed = {
        "responses_B": settings.reads_responses,
        "feedback_B": settings.reads_feedback,
        "thinking_B": "thinking" in settings.parts,
    }
    if any(reads and getattr(step, name) is None for name, reads in needed.items()):
        raise RuntimeError(
            f"with these settings, {method.name} needs trainer.v1.trainer_mode={SYNC} (or our trainer of another mode)"
        )
    real_R = ~_padding(uids_R, lengths_R)
    rollouts = build_rollouts(scores_R, lengths_R, uids_R, settings, step.sessions, real_R)
    return complete(rollouts, settings, run.state_of(method), step)


def _padding(uids_R: np.ndarray, lengths_R: Tensor) -> Tensor:
    """(R,) bool: rows made by ``trainer/ppo/padding_utils.py``: empty mask, uid ``pad…``. Other empty rows are rollouts."""
    padding_R = torch.zeros_like(lengths_R, dtype=torch.bool)
    for row in (lengths_R == 0).nonzero().flatten().tolist():
        padding_R[row] = str(uids_R[row]).startswith("pad")
    return padding_R
