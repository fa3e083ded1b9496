"""``reward.reward_manager.name=efficiency``: verl's own reward manager, which also tells the reward what the response cost.

verl hands a reward function the decoded text only. Here ``extra_info`` carries, besides what verl puts there,

* ``response_tokens``  int, tokens of the response (EOS included; in a tool-using rollout also the tool's, since verl does not
  hand the mask to reward managers),
* ``truncated``        bool, the response ended because it reached ``rollout.response_length``,
* ``prompt_id``        str, a name of the prompt that is the same in every epoch.
"""

from typing import Any

import numpy as np
from verl.experimental.reward_loop.reward_manager import register
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

from verl_efficiency.verl.run import prompt_name


@register("efficiency")
class EfficiencyRewardManager(NaiveRewardManager):
    """See the module."""

    async def run_single(self, data: Any) -> dict:
        last = data[-1:]  # of several sequences verl rewards the last
        tensors, row = last.batch, last.non_tensor_batch
        prompt_length = tensors["prompts"].shape[-1]
        ids = tensors["responses"][0][tensors["attention_mask"][0][prompt_length:].bool()]
        ended = len(ids) > 0 and int(ids[-1]) == self.tokenizer.eos_token_id  # type: ignore[attr-defined]
        extra_info = dict(row["extra_info"][0]) if "extra_info" in row else {}
        extra_info["response_tokens"] = len(ids)
        extra_info["truncated"] = len(ids) >= self.config.actor_rollout_ref.rollout.response_length and not ended
        if "raw_prompt" in row:
            extra_info["prompt_id"] = prompt_name(row["raw_prompt"][0])
        row["extra_info"] = np.array([extra_info], dtype=object)
        return await super().run_single(last)
