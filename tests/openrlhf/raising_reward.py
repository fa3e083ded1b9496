"""A reward that raises for the samples in FAILING, counted from 1. tests/run_openrlhf.sh fills them in."""

from verl_efficiency.openrlhf.reward import agent_executor, reward_function

calls = []


def brittle(data_source, solution_str, ground_truth, extra_info):
    calls.append(solution_str)
    if len(calls) in FAILING:  # type: ignore[name-defined]  # noqa: F821
        raise ValueError("no such unit")
    return {"score": 1.0, "acc": 1.0}


reward_func = reward_function(brittle)
AgentExecutor = agent_executor(brittle)
