"""``composition`` as a reward file or an agent file."""

from verl_efficiency.openrlhf.reward import agent_executor, reward_function

reward_func = reward_function("composition")
AgentExecutor = agent_executor("composition")
