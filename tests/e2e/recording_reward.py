"""One of our rewards, which also records its process, its arguments and its result."""

import json
from pathlib import Path

from verl_efficiency import rewards


def compute_score(data_source, solution_str, ground_truth, extra_info, record, reward, **kwargs):
    """``record`` is the file to append to, ``reward`` the name of our reward."""
    result = getattr(rewards, reward)(data_source, solution_str, ground_truth, extra_info, **kwargs)
    process = Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode()
    line = {"process": process, "solution": solution_str, "extra_info": dict(extra_info), "result": result}
    with open(record, "a") as file:
        file.write(json.dumps(line, default=str) + "\n")
    return result
