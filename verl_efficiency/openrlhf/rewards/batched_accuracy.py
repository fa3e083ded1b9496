"""``batched_accuracy`` as a reward file or an agent file."""

from verl_efficiency.openrlhf.reward import agent_executor, reward_function

reward_func = reward_function("batched_accuracy")
AgentExecutor = agent_executor("batched_accuracy")
