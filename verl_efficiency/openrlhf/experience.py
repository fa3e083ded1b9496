"""OpenRLHF's experience maker with the advantages of one of our methods.

Derive your own subclass from :class:`EfficiencyExperienceMaker` instead of ``RemoteExperienceMaker``. It reads
``strategy.args.efficiency`` (:class:`verl_efficiency.openrlhf.options.Options`), which the launcher puts there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from torch import Tensor

from verl_efficiency.adapter import state
from verl_efficiency.adapter.metrics import console_line
from verl_efficiency.adapter.rollouts import spread
from verl_efficiency.openrlhf.batch import Batch
from verl_efficiency.openrlhf.options import teaches
from verl_efficiency.openrlhf.self_teacher import SelfTeacher


class EfficiencyExperienceMaker(RemoteExperienceMaker):
    """See the module.

    Attributes:
        method: row of the catalog; None leaves the advantages to OpenRLHF.
        method_settings: its settings, or None.
        method_state: what it carries from step to step, or None.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method = self.args.efficiency.row()
        self.method_settings = self.args.efficiency.build_settings()
        self.method_state = self.method.new_state() if self.method else None

    def dump_state(self) -> dict[str, Any]:
        """The method's state by its name, as plain data for a checkpoint; empty where the method has none."""
        return state.dump({self.method.name: self.method_state}) if self.method else {}

    def load_state(self, saved: dict[str, Any], folder: str | Path) -> None:
        """Continue from ``saved``, which :meth:`dump_state` returned for the checkpoint in ``folder``.

        Raises:
            SettingsError: the checkpoint lacks this method's state, and the user has not allowed it to start again.
        """
        if self.method is None or not self.method_settings.keeps_state:
            return
        found = state.state_in(saved, self.method, folder)
        if found is not None:
            self.method_state = found

    @torch.no_grad()
    def make_experience_batch(self, rollout_samples: list[Experience]) -> list[Experience]:
        require_rewards(rollout_samples, self.args.reward.remote_url)
        return super().make_experience_batch(rollout_samples)

    @torch.no_grad()
    def compute_advantages_and_returns(self, experiences: list[Experience]) -> list[Experience]:
        experiences = super().compute_advantages_and_returns(experiences)
        for experience in experiences:
            if experience.rollout_log_probs is not None:
                experience.info |= log_prob_gaps(experience)
        if self.method is None:
            return experiences
        batch = Batch.of(experiences, self.args.rollout.n_samples_per_prompt, self.tokenizer)
        rollouts = batch.rollouts(self.method_settings, self.method_state)
        outcome = self.method.function()(rollouts, self.method_settings, self.method_state)
        advantages_BL, metrics = spread(outcome, batch.mask_BL), dict(outcome.metrics)
        if teaches(self.args.efficiency):
            metrics |= SelfTeacher(self, batch, experiences, advantages_BL).teach(rollouts)
        print(console_line(self.method.name, metrics), flush=True)
        advantages = batch.scatter(advantages_BL, experiences)
        for experience, advantages_EA in zip(experiences, advantages, strict=True):
            experience.advantages = experience.returns = advantages_EA
            tokens_E = experience.action_mask.sum(1).clamp_min(1)
            experience.info["return"] = advantages_EA.sum(1) / tokens_E  # in place of the stock one, which nothing uses
            for name, value in metrics.items():
                experience.info[f"efficiency/{name}"] = torch.full((len(advantages_EA),), float(value))
        return experiences

    @staticmethod
    def wait(refs: Any) -> Any:
        """The results of remote calls."""
        return ray.get(refs)


def require_rewards(samples: Sequence[Any], source: Any) -> None:
    """Refuse rollouts without a reward where a reward function should have given one.

    OpenRLHF swallows what a reward function of ``--reward.remote_url`` raises, and fails later with another message.

    Raises:
        RuntimeError: rollouts have none.
    """
    missing = [sample for sample in samples if sample.rewards is None]
    if source and missing:
        raise RuntimeError(
            f"the reward ({source}) gave nothing for {len(missing)} of {len(samples)} rollouts, the first to the prompt "
            f"{missing[0].prompts[0]!r} with the label {missing[0].labels[0]!r}. OpenRLHF logs what a reward function raises "
            'as "Failed to fetch reward" in the actor RolloutRayActor, and goes on. A reward made with '
            "verl_efficiency.openrlhf.reward stops the run at once, and says why"
        )


def log_prob_gaps(experience: Experience) -> dict[str, Tensor]:
    """Absolute difference of log-probabilities between vLLM and the trainer, (E,): at the first token, and mean of the others.

    vLLM may forbid the end of sequence as the first token (``min_tokens=1``), which widens the gap at that token only.
    """
    mask_EA = experience.action_mask.float()
    gap_EA = (experience.rollout_log_probs - experience.action_log_probs.float()).abs() * mask_EA
    first_EA = mask_EA * (mask_EA.cumsum(1) == 1)
    rest_EA = mask_EA - first_EA
    return {
        "efficiency/log_prob_gap_first": (gap_EA * first_EA).sum(1),
        "efficiency/log_prob_gap_rest": (gap_EA * rest_EA).sum(1) / rest_EA.sum(1).clamp_min(1),
    }
