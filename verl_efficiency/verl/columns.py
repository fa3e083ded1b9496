"""The columns of the data set behind the rollouts of a step: verl's V1 trainer keeps them in TransferQueue."""

from collections.abc import Sequence

from verl_efficiency.data.columns import Row, has_key
from verl_efficiency.methods.rollouts import Rollouts


def rows_of_groups(rollouts: Rollouts, paths: Sequence[str]) -> list[Row | None]:
    """Per group, one row with these columns; None for a group of padding.

    Raises:
        KeyError: a row lacks a column.
        RuntimeError: TransferQueue has no rollout of a group.
    """
    real_G = (rollouts.count() > 0).tolist()
    labels = [label for label, real in zip(rollouts.labels_G, real_G, strict=True) if real]
    rows = _rows_of_step(labels, sorted({path.partition(".")[0] for path in paths}))
    for path in paths:
        if not all(has_key(row, path) for row in rows):
            raise KeyError(f"a training row has no column {path!r}")
    left = iter(rows)
    return [next(left) if real else None for real in real_G]


def _rows_of_step(uids: list[str], columns: list[str]) -> list[Row]:
    """One row of ``columns`` per uid; TransferQueue's keys are ``{uid}_{session}_{index}``."""
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
