"""t_spmo: credits by hand, equality with a dictionary of prefixes, what must hold of any tree, and weights."""

import collections
import dataclasses
import doctest
import random
import statistics

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.selection import t_spmo as module
from verl_efficiency.methods.selection.t_spmo import (
    TSpmoSettings,
    prefix_credit,
    t_spmo,
)

checked = settings(max_examples=120, deadline=None, derandomize=True)


@dataclasses.dataclass(frozen=True)
class Row:
    tokens: tuple[int, ...]
    score: float = 0.0
    group: int = 0
    real: bool = True


def through(rows: list[Row]) -> dict[tuple, list[float]]:
    """(group, prefix) → scores of the rollouts through it, in row order; the definition."""
    scores = collections.defaultdict(list)
    for row in rows:
        for length in range(len(row.tokens) + 1):
            if row.real:
                scores[row.group, row.tokens[:length]].append(row.score)
    return scores


def expected(rows: list[Row]) -> list[list[float]]:
    """The credit of every token of every row, from the definition."""
    scores, seen, credit = through(rows), set(), []
    for row in rows:
        credit.append([0.0] * len(row.tokens))
        for length in range(len(row.tokens)):
            pair, prefix = (row.group, row.tokens[: length + 1]), (row.group, row.tokens[:length])
            if row.real and pair not in seen:
                seen.add(pair)
                credit[-1][length] = statistics.fmean(scores[pair]) - statistics.fmean(scores[prefix])
    return credit


def computed(rows: list[Row]) -> list[list[float]]:
    lengths = [len(row.tokens) for row in rows]
    credit_N = prefix_credit(
        torch.tensor([token for row in rows for token in row.tokens], dtype=torch.int64),
        torch.tensor(lengths, dtype=torch.int64),
        torch.tensor([row.group for row in rows], dtype=torch.int64),
        torch.tensor([row.score for row in rows], dtype=torch.float64),
        torch.tensor([row.real for row in rows], dtype=torch.bool),
    )
    assert credit_N.dtype == torch.float64
    return [part.tolist() for part in credit_N.split(lengths)] if rows else []


def assert_close(got: list[list[float]], wanted: list[list[float]], absolute: float = 1e-12):
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        assert one == pytest.approx(other, rel=0, abs=absolute)


def by_pair(rows: list[Row], credit: list[list[float]]) -> dict[tuple, float]:
    """The sum of the credits of each pair over all rows that pass it."""
    total: dict[tuple, float] = collections.defaultdict(float)
    for row, values in zip(rows, credit, strict=True):
        for length, value in enumerate(values):
            total[row.group, row.tokens[: length + 1]] += value
    return total


@st.composite
def batches(draw):
    """Rows that often share long prefixes, repeat, end inside another, or are empty."""
    alphabet = draw(st.sampled_from([(0,), (0, 1), (-3, 5, 2**40)]))
    shared = (7,) * draw(st.sampled_from([0, 0, 1, 15, 16, 17, 60]))
    rows: list[Row] = []
    for _ in range(draw(st.integers(0, 12))):
        own = tuple(draw(st.lists(st.sampled_from(alphabet), max_size=6)))
        kind = draw(st.sampled_from(["shared", "own", "own", "prefix", "same"]))
        tokens = shared + own if kind == "shared" else own
        if rows and kind in ("prefix", "same"):
            tokens = draw(st.sampled_from(rows)).tokens
            tokens = tokens[: len(tokens) // 2] + own[:1] if kind == "prefix" else tokens
        score = draw(st.sampled_from([0.0, 1.0, 0.1, -2.5, 1 / 3]))
        rows.append(Row(tokens, score, draw(st.integers(0, 2)), draw(st.sampled_from([True, True, True, False]))))
    return rows


def test_by_hand():
    rows = [
        Row((4, 5, 2), 1.0),
        Row((4, 6, 2), 0.0),
        Row((4, 5, 2), 0.0),  # as the first: its pairs are counted there
        Row((4, 6, 8), 1.0),
        Row((4,), 0.5),  # ends where the others part
        Row((), 0.5),  # an empty response counts at the root
        Row((4, 9, 9), 1.0, group=1),  # alone
        Row((4, 7, 2), 9.0, real=False),
    ]
    # root 3/6 = 0.5, through 4: 2.5/5 = 0.5, through 4·5: 1/2, through 4·6: 1/2, through 4·6·2: 0, through 4·6·8: 1
    assert computed(rows) == [[0, 0, 0], [0, 0, -0.5], [0, 0, 0], [0, 0, 0.5], [0], [], [0, 0, 0], [0, 0, 0]]


def test_end_of_sequence_is_a_token_and_a_strict_prefix_a_leaf():
    eos = 2
    ended = [Row((4, eos), 1.0), Row((4, 5, eos), 0.0)]
    assert computed(ended) == [[0, 0.5], [0, -0.5, 0]]
    cut = [Row((4,), 1.0), Row((4, 5, eos), 0.0)]
    assert computed(cut) == [[0], [0, -0.5, 0]]


@example([Row((1,) * 3), Row((1,) * 3, 1.0), Row((1,) * 2, 0.1)])
@given(batches())
@checked
def test_equals_the_dictionary_of_prefixes(rows):
    assert_close(computed(rows), expected(rows))


@pytest.mark.parametrize("shared", [15, 16, 17, 1007, 1008, 1009, 2032, 5000])
def test_long_shared_prefixes(shared):
    # Windows of 16, 32, … 1024 tokens end after 16, 48, … 1008, 2032 tokens.
    trunk = tuple(range(shared))
    rows = [Row((*trunk, 1, 9), 1.0), Row((*trunk, 3, 9), 0.0), Row((*trunk, 1, 8), 0.0), Row(trunk, 0.0)]
    credit = computed(rows)
    assert [values[:shared] for values in credit] == [[0.0] * shared] * 4
    # through the trunk ¼, through 1: ½, through 3: 0
    assert [values[shared:] for values in credit] == [[0.25, 0.5], [-0.25, 0], [0, -0.5], []]


def test_rollouts_that_leave_one_after_the_other():
    draw = random.Random(0)
    rows = [Row((1,) * place + (0,) * 3, draw.random()) for place in range(60)]
    draw.shuffle(rows)
    assert_close(computed(rows), expected(rows))


def test_many_random_trees():
    draw = random.Random(1)
    for _ in range(20):
        rows = [
            Row(tuple(draw.choices([0, 1], [20, 1], k=draw.randrange(80))), draw.gauss(0, 1), draw.randrange(4))
            for _ in range(64)
        ]
        assert_close(computed(rows), expected(rows))


@given(batches(), st.randoms(use_true_random=False))
@checked
def test_the_order_of_rows_only_moves_a_credit_to_the_first_row_that_passes(rows, draw):
    shuffled = draw.sample(rows, len(rows))
    before, after = by_pair(rows, computed(rows)), by_pair(shuffled, computed(shuffled))
    assert dict(after) == pytest.approx(dict(before), rel=0, abs=1e-12)
    seen = set()
    for row, values in zip(shuffled, computed(shuffled), strict=True):
        for length, value in enumerate(values):
            pair = (row.group, row.tokens[: length + 1])
            assert value == 0 or (row.real and pair not in seen)
            if row.real:
                seen.add(pair)


@given(batches())
@checked
def test_sums_along_a_path_and_over_the_children_of_a_prefix(rows):
    scores, credit = through(rows), by_pair(rows, computed(rows))
    for group, prefix in scores:
        path = sum(credit[group, prefix[: length + 1]] for length in range(len(prefix)))
        difference = statistics.fmean(scores[group, prefix]) - statistics.fmean(scores[group, ()])
        assert path == pytest.approx(difference, rel=0, abs=1e-11)
    children = collections.defaultdict(list)
    for group, pair in scores:
        if pair:
            children[group, pair[:-1]].append((group, pair))
    for prefix, pairs in children.items():
        if sum(len(scores[pair]) for pair in pairs) == len(scores[prefix]):  # nobody ends here
            assert sum(len(scores[pair]) * credit[pair] for pair in pairs) == pytest.approx(0, abs=1e-11)


@given(batches())
@checked
def test_equal_scores_have_no_credit_to_the_last_bit(rows):
    rows = [dataclasses.replace(row, score=0.1) for row in rows]
    assert all(value == 0 for values in computed(rows) for value in values)


@given(batches())
@checked
def test_padding_counts_nowhere(rows):
    without = [row for row in rows if row.real]
    kept = [values for row, values in zip(rows, computed(rows), strict=True) if row.real]
    assert kept == computed(without)
    assert not any(any(values) for row, values in zip(rows, computed(rows), strict=True) if not row.real)


def test_a_large_score_of_one_prompt_leaves_the_others_exact():
    rows = [Row((1,), 1e12), Row((2,), -1e12), Row((1, 5), 0.25, 1), Row((1, 6), 0.75, 1)]
    assert computed(rows) == [[1e12], [-1e12], [0, -0.25], [0, 0.25]]


def test_lengths_that_do_not_fit_are_refused():
    one = torch.ones(1)
    with pytest.raises(ValueError, match="lengths add up to 2, but there are 3 tokens"):
        prefix_credit(torch.zeros(3).long(), torch.tensor([2]), torch.tensor([0]), one, one.bool())


def build(rows: list[Row]) -> Rollouts:
    rollouts = Rollouts.build(
        torch.tensor([row.score for row in rows], dtype=torch.float64),
        torch.tensor([len(row.tokens) for row in rows], dtype=torch.int64),
        [row.group for row in rows],
        real_B=torch.tensor([row.real for row in rows], dtype=torch.bool),
    )
    return dataclasses.replace(rollouts, responses_B=tuple(torch.tensor(row.tokens, dtype=torch.int64) for row in rows))


def mask_of(rows: list[Row], columns: int) -> torch.Tensor:
    return (torch.arange(columns) < torch.tensor([len(row.tokens) for row in rows])[:, None]).long()


# Group 0: pairs 4, 4·5, 4·5·2, 4·6, 4·6·2 (5, of which 4·5 and 4·6 branch). Group 1: 7, 8, 8·8, 8·8·8 (4, of which 7 and 8
# branch). The tokens are 3 + 3 + 1 + 3 = 10.
ROWS = [
    Row((4, 5, 2), 1.0),
    Row((7,), 1.0, group=1),
    Row((4, 6, 2), 0.0),
    Row((8, 8, 8), 0.0, group=1),
    Row((8, 1), 0.0, group=2, real=False),
]
CREDIT = [[0, 0.5, 0, 0], [0.5, 0, 0, 0], [0, -0.5, 0, 0], [-0.5, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("chosen", "scale_of_group_0", "scale_of_group_1"),
    [
        (TSpmoSettings(), 10 / 9, 10 / 9),
        (TSpmoSettings(counted="branched"), 10 / 4, 10 / 4),
        (TSpmoSettings(normalise="prompt"), 10 / (2 * 5), 10 / (2 * 4)),
        (TSpmoSettings(normalise="prompt", counted="branched"), 10 / (2 * 2), 10 / (2 * 2)),
        (TSpmoSettings(normalise="none", counted="branched"), 1, 1),
    ],
)
def test_weights_by_hand(chosen, scale_of_group_0, scale_of_group_1):
    outcome = t_spmo(build(ROWS), chosen)
    assert outcome.advantages_B.tolist() == [1, 1, 1, 1, 0]
    weights = outcome.token_weights(mask_of(ROWS, 4))
    assert weights.dtype == torch.float32
    scale = torch.tensor([scale_of_group_0, scale_of_group_1, scale_of_group_0, scale_of_group_1, 1])
    torch.testing.assert_close(weights, torch.tensor(CREDIT) * scale[:, None])


def test_metrics_by_hand():
    assert t_spmo(build(ROWS), TSpmoSettings()).metrics == {
        "solve_rate": 0.5,
        "credited_tokens": 0.4,
        "unique_pairs": 9,
        "branched_pairs": 4,
        "branch_points": 2,
        "branched_prompts": 1,
        "branch_depth": 0.5,  # of two pairs after one token, two at the beginning
    }


@given(batches())
@checked
def test_token_mean_of_the_weights_is_the_objective(rows):
    real = [row for row in rows if row.real]
    columns = max((len(row.tokens) for row in rows), default=0) + 1
    mask = mask_of(real, columns)
    pairs = [pair for pair in through(real) if pair[1]]
    outcome = t_spmo(build(real), TSpmoSettings())
    assert outcome.metrics["unique_pairs"] == len(pairs)
    # The gradient of a loss whose term at each token is that token's own parameter: weights / tokens = credit / pairs.
    gradient = outcome.token_weights(mask) / max(int(mask.sum()), 1)
    for values, wanted in zip(gradient.tolist(), expected(real), strict=True):
        padded = [value / len(pairs) for value in wanted] + [0.0] * (columns - len(wanted))
        assert values == pytest.approx(padded, rel=1e-5, abs=1e-7)


@given(batches())
@checked
def test_mean_over_prompts_by_its_definition(rows):
    real = [row for row in rows if row.real]
    weights = t_spmo(build(real), TSpmoSettings(normalise="prompt")).token_weights(mask_of(real, 80))
    pairs = collections.Counter(group for group, prefix in through(real) if prefix)
    prompts, tokens = len({row.group for row in real}), sum(len(row.tokens) for row in real)
    for row, values, wanted in zip(real, weights.tolist(), expected(real), strict=True):
        scaled = [tokens / prompts / pairs[row.group] * value for value in wanted]
        assert values[: len(wanted)] == pytest.approx(scaled, rel=1e-5, abs=1e-6)


def test_tokens_of_a_tool_separate_rollouts_but_get_no_weight():
    rows = [Row((4, 90, 5, 2), 1.0), Row((4, 91, 5, 2), 0.0), Row((4, 90, 6, 2), 0.0)]
    rollouts = dataclasses.replace(build(rows), lengths_B=torch.tensor([3, 3, 3]))
    mask = torch.tensor([[1, 0, 1, 1]] * 3)
    weights = t_spmo(rollouts, TSpmoSettings(normalise="none")).token_weights(mask)
    assert weights.tolist() == [[0, 0, 0.5, 0], [0, 0, 0, 0], [0, 0, -0.5, 0]]
    # N counts the 9 generated tokens, U all pairs, which are 9 too: 4, 90, 91, and behind these 5, 2, 6, 2, 5, 2
    weights = t_spmo(rollouts, TSpmoSettings()).token_weights(mask)
    assert weights.tolist() == [[0, 0, 0.5, 0], [0, 0, 0, 0], [0, 0, -0.5, 0]]


def test_inputs_that_do_not_fit_are_refused():
    rollouts = build(ROWS)
    with pytest.raises(ValueError, match=r"without their token ids \(responses_B\)"):
        t_spmo(dataclasses.replace(rollouts, responses_B=None), TSpmoSettings())
    with pytest.raises(ValueError, match=r"responses_B\[2\] has 3 tokens, of which 4 are said to be generated"):
        t_spmo(dataclasses.replace(rollouts, lengths_B=torch.tensor([3, 1, 4, 3, 2])), TSpmoSettings())
    weights = t_spmo(rollouts, TSpmoSettings()).token_weights
    with pytest.raises(ValueError, match="mask of rollout 1 reaches beyond its response of 1 tokens"):
        weights(torch.ones(5, 3))
    with pytest.raises(ValueError, match="response of rollout 0 has 3 tokens, the mask 2 columns"):
        weights(mask_of(ROWS, 2))


def test_a_batch_without_rollouts_or_without_tokens():
    outcome = t_spmo(build([]), TSpmoSettings())
    assert outcome.token_weights(torch.zeros(0, 3)).shape == (0, 3)
    outcome = t_spmo(build([Row((), 1.0), Row((), 0.0)]), TSpmoSettings(normalise="prompt"))
    assert outcome.token_weights(torch.zeros(2, 3)).tolist() == [[0, 0, 0]] * 2


# One prompt: all through 4; behind it 5 (mean ¾ of four) and 6 (mean 0 of two): |A| = ¼ and ½. Behind 4·5: 7 (1 of three)
# and 8 (0): |A| = ¼ and ¾. Behind 4·5·7·7: 1 and 3, all right, no credit.
TREE = [
    Row((4, 5, 7, 7, 1), 1.0),
    Row((4, 5, 7, 7, 3), 1.0),
    Row((4, 5, 7, 7, 3), 1.0),
    Row((4, 6, 2), 0.0),
    Row((4, 5, 8, 9, 9), 0.0),
    Row((4, 6, 2), 0.0),
]


def test_branches_below_each_other_are_counted():
    metrics = t_spmo(build(TREE), TSpmoSettings()).metrics
    assert metrics["branch_points"] == 3
    assert metrics["branched_pairs"] == 6
    assert metrics["branch_depth"] == pytest.approx((1 + 1 + 2 + 2 + 4 + 4) / 6)
    assert metrics["credited_tokens"] == 4 / 26
    assert metrics["unique_pairs"] == 5 + 1 + 2 + 3  # by the rows 0, 1, 3 and 4


def test_examples():
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0
