"""``stop_properly`` for ``--train.agent_func_path`` only: it needs the token count of the response."""

from verl_efficiency.openrlhf.reward import agent_executor

AgentExecutor = agent_executor("stop_properly")
