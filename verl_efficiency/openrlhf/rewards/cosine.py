"""``cosine`` as an agent file: it must know how many tokens a response has."""

from verl_efficiency.openrlhf.reward import agent_executor

AgentExecutor = agent_executor("cosine")
