"""What the driver of a verl run knows: the data set's columns, the state of the methods, the step in progress.

An advantage estimator is called with scores, mask and uid only. The rest it finds here: a data set's columns are read from
TransferQueue, where verl's V1 trainer keeps every column beside each rollout of the step; responses and feedback are handed
over by our own trainer (``trainer.py``), which also collects the metrics.
"""

import dataclasses
import hashlib
import json
from typing import Any

import torch
from torch import Tensor

from verl_efficiency.methods.catalog import Estimator
from verl_efficiency.methods.cost import count_tool_tokens, count_turns, priced
from verl_efficiency.methods.own import all_estimators
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing.variance_routing import StoredResponses
from verl_efficiency.settings import MethodSettings, SettingsError, unknown


@dataclasses.dataclass(frozen=True)
class Step:
    """What our trainer knows of the batch of a step beyond what verl hands an estimator; the rows are those of the batch.

    Attributes:
        responses_B: token ids of each response.
        feedback_B: what the reward said of each response in words, or None.
        thinking_B: int64, thinking tokens of each response, or None when nobody needs them.
    """

    responses_B: tuple[Tensor, ...]
    feedback_B: tuple[str | None, ...]
    thinking_B: Tensor | None = None


_states: dict[str, Any] = {}
_step: Step | None = None
_metrics: dict[str, float] = {}


def begin_step(step: Step) -> None:
    """Our trainer has a batch: estimators may use ``step``, and hand their metrics over instead of printing them."""
    global _step
    _step = step
    _metrics.clear()


def current_step() -> Step | None:
    """The step in progress, if the trainer is ours."""
    return _step


def report(method: Estimator, metrics: dict[str, float]) -> None:
    """The metrics of an estimator: into the step's metrics if the trainer is ours, else one line in the driver's log."""
    if _step is None:
        print(f"[{method.name}] " + " ".join(f"{key}={value:.4g}" for key, value in metrics.items()), flush=True)
    else:
        _metrics.update({f"{method.name}/{key}": value for key, value in metrics.items()})


def reported() -> dict[str, float]:
    """The metrics handed over since the step began."""
    return dict(_metrics)


def state_of(method: Estimator) -> Any:
    """The state of ``method`` in this process; a fresh one at first."""
    if method.name not in _states:
        _states[method.name] = method.new_state()
    return _states[method.name]


def dump_states() -> dict[str, dict]:
    """All states as plain data, for a checkpoint."""
    return {name: dataclasses.asdict(state) for name, state in _states.items() if state is not None}


def load_states(saved: dict[str, dict]) -> None:
    """Replace the states by saved ones.

    Raises:
        SettingsError: the state of a method, or a field of one, that this version does not have.
    """
    for name, values in saved.items():
        known = all_estimators()
        if name not in known:
            raise SettingsError(f"the checkpoint holds the state of an {unknown('estimator', name, known)}")
        _states[name] = known[name].restored_state(values)


def reset() -> None:
    """Forget all states and the step (a new run in the same process)."""
    global _step
    _step = None
    _states.clear()
    _metrics.clear()


def complete(
    rollouts: Rollouts, settings: MethodSettings, state: Any, step: Step | None, mask_BL: Tensor | None = None
) -> Rollouts:
    """Add what the method asks for beyond scores and lengths: columns of the data set, responses, feedback, references, and
    the counts that its cost is made of."""
    added: dict[str, Any] = _counts(rollouts, settings, step, mask_BL)
    if settings.reads_responses or settings.reads_feedback:
        if step is None:
            raise RuntimeError("this method needs trainer.v1.trainer_mode=efficiency_sync")
        added["responses_B"] = step.responses_B if settings.reads_responses else None
        added["feedback_B"] = step.feedback_B if settings.reads_feedback else None
    return priced(dataclasses.replace(rollouts, **added, **_columns(rollouts, settings, state)), settings)


def _counts(
    rollouts: Rollouts, settings: MethodSettings, step: Step | None, mask_BL: Tensor | None
) -> dict[str, Tensor]:
    """The counts of ``settings.parts``: turns and tools from the response mask, prompts from TransferQueue, thinking from our
    trainer."""
    counts: dict[str, Tensor] = {}
    if "thinking" in settings.parts:
        if step is None or step.thinking_B is None:
            raise RuntimeError(
                "this method counts thinking tokens, which needs trainer.v1.trainer_mode=efficiency_sync"
            )
        counts["thinking_B"] = step.thinking_B.to(rollouts.scores_B.device)
    if not settings.parts & {"turns", "context"}:
        return counts
    if mask_BL is None:
        raise RuntimeError("this method counts turns, and nobody has given it the response mask")
    if "turns" in settings.parts:
        counts["turns_B"] = count_turns(mask_BL)
    if "context" in settings.parts:
        prompts_G = [0 if row is None else len(row["prompts"]) for row in _rows_of_groups(rollouts, ["prompts"])]
        prompts_B = torch.tensor(prompts_G, device=mask_BL.device)[rollouts.groups_B]
        counts["context_B"] = prompts_B + count_tool_tokens(mask_BL)
    return counts


def _columns(rollouts: Rollouts, settings: MethodSettings, state: Any) -> dict[str, Any]:
    """What the data set, and the responses stored so far, say of each prompt."""
    paths = dict(settings.columns)
    if settings.names_prompts:
        paths.setdefault("prompt", "raw_prompt")
    if not paths:
        return {}
    rows_G = _rows_of_groups(rollouts, sorted({path.split(".")[0] for path in paths.values()}))

    def column(role: str, of_padding: Any) -> list:
        return [of_padding if row is None else _select(row, paths[role]) for row in rows_G]

    added: dict[str, Any] = {}
    if "difficulty" in paths:
        values = [float(value) for value in column("difficulty", 0.5)]
        added["difficulty_G"] = torch.tensor(values, dtype=torch.float64, device=rollouts.scores_B.device)
    if "prompt" in paths:
        added["prompt_ids_G"] = tuple("" if value is None else prompt_name(value) for value in column("prompt", None))
    if "reference" in paths:
        added["references_G"] = tuple(value or None for value in column("reference", None))
    if isinstance(state, StoredResponses) and settings.names_prompts:
        known = added.get("references_G", (None,) * rollouts.G)
        added["references_G"] = state.completed(known, added["prompt_ids_G"])
    return added


def _rows_of_groups(rollouts: Rollouts, columns: list[str]) -> list[dict | None]:
    """One row of ``columns`` per group; None for a group of padding."""
    real = (rollouts.count() > 0).tolist()
    labels = [label for label, keep in zip(rollouts.labels_G, real, strict=True) if keep]
    rows = iter(_rows_of_step(labels, columns))
    return [next(rows) if keep else None for keep in real]


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
