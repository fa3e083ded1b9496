"""A reward with your settings: ``REWARD=recipes/openrlhf/composition_reward.py bash recipes/openrlhf/composition.sh``."""

from verl_efficiency.openrlhf.reward import agent_executor

AgentExecutor = agent_executor(
    "composition",
    terms=[
        {"name": "stop_properly", "weight": 1.0},
        {"name": "repetition", "weight": 0.1, "n": 4},
    ],
)
