"""The agent loop of a restart (``replay.py``): verl's own for one turn, with the prefix appended to the templated prompt."""

from typing import Any

from verl.experimental.agent_loop.agent_loop import register
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

AGENT = "efficiency_replay"


@register(AGENT)
class ReplayAgentLoop(SingleTurnAgentLoop):
    """Continues from the token ids in ``extra_info.replay_prefix``."""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> Any:
        self.prefix = list(row["extra_info"]["replay_prefix"])
        return await super().run(sampling_params, **row)

    async def ct_build_initial_tokens(self, *arguments: Any, **options: Any) -> list[int]:
        return [*await super().ct_build_initial_tokens(*arguments, **options), *self.prefix]
