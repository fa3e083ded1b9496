"""An agent loop that returns one or two outputs per session. The second one has another prompt and no rewards of its own."""

from typing import Any
from uuid import uuid4

from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

KEPT = 5  # tokens of the first output that the second prompt holds


class TwoOutputs(SingleTurnAgentLoop):
    """After a first output with an even number of tokens, the model answers once more, from a longer prompt."""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> Any:
        first = await super().run(sampling_params, **row)
        if len(first.response_ids) % 2:
            return first
        prompt = first.prompt_ids + first.response_ids[-KEPT:]
        answer = await self.server_manager.generate(
            request_id=uuid4().hex, prompt_ids=prompt, sampling_params=sampling_params
        )
        second = first.model_copy(  # verl needs the same fields in all outputs of a session
            update={
                "prompt_ids": prompt,
                "response_ids": answer.token_ids,
                "response_mask": [1] * len(answer.token_ids),
                "response_logprobs": answer.log_probs,
                "extra_fields": {**answer.extra_fields, "turn_scores": [], "tool_rewards": []},
            }
        )
        return [first, second]
