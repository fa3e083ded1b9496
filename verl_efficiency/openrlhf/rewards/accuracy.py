"""``accuracy`` for ``--reward.remote_url`` or ``--train.agent_func_path``."""

from verl_efficiency.openrlhf.reward import agent_executor, reward_function

reward_func = reward_function("accuracy")
AgentExecutor = agent_executor("accuracy")
