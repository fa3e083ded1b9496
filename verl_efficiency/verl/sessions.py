"""Sessions with several outputs: which rows of a batch of verl's V1 trainer belong together.

An agent loop may return several outputs per session. Each is a row of the batch, and TransferQueue's keys name the rows
``{uid}_{session}_{index}``. verl gives the keys to its own ``grpo`` only (trainer/ppo/v1/utils.py:126 in 0.9.1), which compares
the last outputs of the sessions and gives each output the advantage of its session. To do the same for our estimators we need
the keys, so :func:`keep_keys` wraps that function. It changes neither its arguments nor its result.

An empty last output is the one difference: verl's ``grpo`` reads the advantage from its tokens and so finds 0 for the session.
"""

import functools
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from verl_efficiency.adapter.rollouts import Sessions
from verl_efficiency.verl import run


def keep_keys(utils: Any) -> None:
    """Wrap ``compute_advantage_for_multi_trajectories`` of verl's module so that estimators can read the keys of the rows.

    Raises:
        RuntimeError: the function takes other arguments than in verl 0.9.1.
    """
    original = utils.compute_advantage_for_multi_trajectories
    if list(inspect.signature(original).parameters)[:2] != ["data", "batch_keys"]:
        raise RuntimeError("compute_advantage_for_multi_trajectories does not begin with (data, batch_keys)")

    @functools.wraps(original)
    def with_keys(data: Any, batch_keys: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        with run.rows_with(sessions=sessions_of(batch_keys), prompt_tokens=lambda: prompt_tokens(batch_keys)):
            return original(data, batch_keys, *args, **kwargs)

    utils.compute_advantage_for_multi_trajectories = with_keys


def sessions_of(keys: Sequence[str]) -> Sessions | None:
    """The sessions of the rows with these keys; None if each has one output.

    >>> sessions_of(["u_0_0", "u_1_0"])
    >>> sessions_of(["u_0_1", "u_1_0", "u_0_0"]).session_R.tolist()
    [0, 1, 0]
    """
    names, outputs = [], []
    for key in keys:
        session, _, output = key.rpartition("_")
        names.append(session)
        outputs.append(int(output))
    return Sessions.of(names, outputs) if any(outputs) else None


def prompt_tokens(keys: Sequence[str]) -> Tensor:
    """(R,) int64: tokens of each row's own prompt, from TransferQueue."""
    import transfer_queue as tq

    tags = tq.kv_list("train")["train"]
    return torch.tensor([tags[key]["prompt_len"] for key in keys])
