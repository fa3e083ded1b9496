"""What the driver of a verl run knows: the whole configuration, the data set's columns, the state of the methods.

An advantage estimator is called with scores, mask and uid only. The rest it finds here: the configuration is handed over by the
checkpoint callback (verl builds it on the driver before the first step, with the whole configuration), and a data set's
columns are read from TransferQueue, where verl's V1 trainer keeps every column beside each rollout of the step.
"""

import dataclasses
import hashlib
import json
from typing import Any

import torch

from verl_efficiency.methods.catalog import ESTIMATORS, Method
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import MethodSettings

_states: dict[str, Any] = {}


def state_of(method: Method) -> Any:
    """The state of ``method`` in this process; a fresh one at first."""
    if method.name not in _states:
        _states[method.name] = method.new_state()
    return _states[method.name]


def dump_states() -> dict[str, dict]:
    """All states as plain data, for a checkpoint."""
    return {name: dataclasses.asdict(state) for name, state in _states.items() if state is not None}


def load_states(saved: dict[str, dict]) -> None:
    """Replace the states by saved ones."""
    for name, values in saved.items():
        _states[name] = dataclasses.replace(ESTIMATORS[name].new_state(), **values)


def reset_states() -> None:
    """Forget all states (a new run in the same process)."""
    _states.clear()


def with_columns(rollouts: Rollouts, settings: MethodSettings) -> Rollouts:
    """Add what the method asks of the data set: a difficulty per group, a lasting name per prompt."""
    if not settings.columns and not settings.names_prompts:
        return rollouts
    paths = dict(settings.columns)
    if settings.names_prompts:
        paths.setdefault("prompt", "raw_prompt")
    real = (rollouts.count() > 0).tolist()
    labels = [label for label, keep in zip(rollouts.labels_G, real, strict=True) if keep]
    rows = iter(_rows_of_step(labels, sorted({path.split(".")[0] for path in paths.values()})))
    rows_G = [next(rows) if keep else None for keep in real]
    added: dict[str, Any] = {}
    if "difficulty" in paths:
        values = [0.5 if row is None else float(_select(row, paths["difficulty"])) for row in rows_G]
        added["difficulty_G"] = torch.tensor(values, dtype=torch.float64, device=rollouts.scores_B.device)
    if "prompt" in paths:
        added["prompt_ids_G"] = tuple(
            "" if row is None else prompt_name(_select(row, paths["prompt"])) for row in rows_G
        )
    return dataclasses.replace(rollouts, **added)


def _rows_of_step(uids: list[str], columns: list[str]) -> list[dict]:
    """One row of ``columns`` per uid, from TransferQueue (keys are ``{uid}_{session}_{index}``)."""
    import transfer_queue as tq

    first: dict[str, str] = {}
    for key in tq.kv_list("train")["train"]:
        uid, *session = key.rsplit("_", 2)
        if session:
            first.setdefault(uid, key)
    missing = [uid for uid in uids if uid not in first]
    if missing:
        raise RuntimeError(
            f"TransferQueue holds no rollout of {len(missing)} groups of this step, the first is {missing[0]}"
        )
    data = tq.kv_batch_get(keys=[first[uid] for uid in uids], partition_id="train", select_fields=columns)
    lists = {column: list(data[column]) for column in columns}
    return [{column: lists[column][row] for column in columns} for row in range(len(uids))]


def _select(row: dict, path: str) -> Any:
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            raise KeyError(f"a training row has no column {path!r} (stopped at {part!r})")
        value = value[part]
    return value


def prompt_name(value: Any) -> str:
    """A name of a prompt that is the same in every epoch and process: scalars as they are, messages by their content."""
    if isinstance(value, str | int | float):
        return str(value)
    messages = [[str(message["role"]), str(message["content"])] for message in value]
    return hashlib.sha256(json.dumps(messages).encode()).hexdigest()[:16]
