"""The advantages that verl's policy loss got, beside those recomputed from verl's dumped text."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

from tests.e2e.test_token_budget_training import score
from tests.unit.reference import Row

Formula = Callable[[Sequence[Row]], Sequence[float]]


class Answer(Row):
    """A rollout of the testbed: one turn, no thinking, and in a group the same context."""

    thinking, turns, context = 0, 1, 20  # type: ignore[assignment]


def groups_of(rows: Sequence[dict], tokenizer: Any, limit: int) -> list[list[Row]]:
    """The rollouts of each group, with scores and lengths from their text. The dump leaves out the EOS token."""
    groups = defaultdict(list)
    for row in rows:
        tokens = len(tokenizer(row["output"], add_special_tokens=False)["input_ids"])
        uid = row["uid"].rsplit("_", 2)[0]
        groups[uid].append(Answer(score(row), min(tokens + 1, limit), uid))
    return list(groups.values())


def largest_difference(groups: Sequence[list[Row]], formula: Formula, recorded: Sequence[Sequence[float]]) -> float:
    """The largest difference of an advantage between ``formula`` and ``recorded``, which has every token of every rollout.

    verl dumps neither which rollout is which nor the order of a group. So both sides are compared sorted. A group with equal
    lengths, where a method may go by the order, counts in the order that fits best.
    """
    assert all(len(set(row)) == 1 for row in recorded), "a rollout has one advantage"
    theirs = sorted((len(row), row[0]) for row in recorded)

    def differences(groups: Sequence[list[Row]]) -> list[float]:
        rows = [row for group in groups for row in group]
        ours = sorted(zip((row.length for row in rows), formula(rows), strict=True))
        assert [length for length, _ in ours] == [length for length, _ in theirs], "the rollouts have other lengths"
        return [abs(one - other) for (_, one), (_, other) in zip(ours, theirs, strict=True)]

    groups = list(groups)
    for number, group in enumerate(groups):
        if len({row.length for row in group}) < len(group):
            orders = [[*groups[:number], list(order), *groups[number + 1 :]] for order in permutations(group)]
            groups = min(orders, key=lambda order: sum(differences(order)))
    return max(differences(groups))
