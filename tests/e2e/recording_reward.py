"""The accuracy reward, which also writes down in which process it runs and what it is told."""

import json
import os
from pathlib import Path

from verl_efficiency.rewards import accuracy


def compute_score(data_source, solution_str, ground_truth, extra_info, record, **kwargs):
    """``record`` is the file to append to."""
    process = Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode()
    told = {name: extra_info[name] for name in ("index", "response_tokens", "truncated", "prompt_id")}
    with open(record, "a") as file:
        file.write(json.dumps({"process": process, "pid": os.getpid(), "solution": solution_str, **told}) + "\n")
    return accuracy(data_source, solution_str, ground_truth, extra_info, **kwargs)
