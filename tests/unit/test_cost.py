"""What a rollout costs: the setting, and how turns, context and thinking are counted."""

import dataclasses
import random

import pytest
import torch

from tests.unit.reference import Row
from tests.unit.shaping.batches import NAMES, settings_of
from tests.unit.test_rollouts import build
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.cost import (
    CostSettings,
    ThinkingCounter,
    count_tool_tokens,
    count_turns,
    priced,
    read_cost,
)
from verl_efficiency.settings import SettingsError, build_settings

PAYS = [name for name in NAMES if name != "grlc" and hasattr(settings_of(name), "cost")]


@pytest.mark.parametrize(
    ("written", "weights", "parts"),
    [
        ("generated", {"generated": 1}, set()),
        ("thinking", {"thinking": 1}, {"thinking"}),
        ("answer", {"answer": 1}, {"thinking"}),
        ("thinking+0.25*answer", {"thinking": 1, "answer": 0.25}, {"thinking"}),
        (" 2 * generated + 1e2*turns ", {"generated": 2, "turns": 100}, {"turns"}),
        ("turns+.5*context", {"turns": 1, "context": 0.5}, {"turns", "context"}),
    ],
)
def test_a_cost_is_a_weighted_sum(written, weights, parts):
    assert read_cost(written) == weights
    assert build_settings(CostSettings, {"cost": written}, "here").parts == parts


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("thinkin", "did you mean 'thinking'"),
        ("", "Known: "),
        ("thinking+", "Known: "),
        ("thinking,answer", "thinking,answer"),
        ("2thinking", "2thinking"),
        ("turns+turns", "'turns' stands twice"),
        ("two*turns", "'two'"),
        ("*turns", "''"),
        ("0*turns", "weight of turns"),
        ("-1*turns", "weight of turns"),
        ("nan*turns", "weight of turns"),
        ("inf*turns", "weight of turns"),
    ],
)
def test_another_cost_is_refused_by_name(written, named):
    with pytest.raises(SettingsError, match=r"here\.cost: ") as error:
        build_settings(CostSettings, {"cost": written}, "here")
    assert named in str(error.value)


def test_turns_and_tool_tokens_by_hand():
    mask = torch.tensor(
        [
            [1, 1, 1, 1, 0, 0],  # one turn, then padding
            [1, 0, 0, 1, 0, 1],  # three turns, three tokens of tools
            [0, 1, 1, 0, 0, 0],  # begins with a token that it did not write
            [1, 1, 0, 0, 1, 1],  # up to the last column
            [0, 0, 0, 0, 0, 0],  # empty
        ]
    )
    for dtype in (torch.int64, torch.float32, torch.bool):
        assert count_turns(mask.to(dtype)).tolist() == [1, 3, 1, 2, 0]
        assert count_tool_tokens(mask.to(dtype)).tolist() == [0, 3, 1, 2, 0]
    assert count_turns(torch.zeros(2, 0)).tolist() == count_tool_tokens(torch.zeros(2, 0)).tolist() == [0, 0]


def counted(rows):
    """The rollouts of ``rows`` with a third of each length thought, two turns where the length is even, and a context."""
    rollouts = build(rows)
    lengths = rollouts.lengths_B
    return dataclasses.replace(
        rollouts,
        thinking_B=lengths // 3,
        turns_B=1 + (lengths % 2 == 0).long(),
        context_B=lengths + 7,
        prompt_ids_G=rollouts.labels_G,
    )


def test_the_price_of_each_term_by_hand():
    rollouts = counted([Row(1.0, 30, "a"), Row(0.0, 9, "a")])
    for cost, expected in {
        "thinking": [10, 3],
        "answer": [20, 6],
        "turns": [2, 1],
        "context": [37, 16],
        "generated+100*turns": [230, 109],
        "thinking+0.5*answer": [20, 6],
    }.items():
        paid = priced(rollouts, CostSettings(cost))
        assert paid.lengths_B.tolist() == expected
        assert paid.generated_B.tolist() == [30, 9]
        assert paid.reached(30).tolist() == [True, False]
    assert priced(rollouts, CostSettings()) is rollouts


@pytest.mark.parametrize("cost", ["thinking", "answer", "turns", "context"])
def test_a_count_that_is_missing_is_named(cost):
    with pytest.raises(ValueError, match=rf"cost={cost} needs (thinking|turns|context)_B"):
        priced(build([Row(1.0, 3, "a")]), CostSettings(cost))


@pytest.mark.parametrize("name", PAYS)
def test_every_method_takes_a_cost_for_a_length(name):
    """With a cost of three times the tokens a method gives what it gives for rollouts three times as long, if nothing is cut
    off; and a cost of fractions is as good as one of whole numbers."""
    rng = random.Random(name)
    rows = [Row(float(rng.random() < 0.6), rng.randint(1, 60), f"g{number // 6}") for number in range(36)]
    for cost in ("3*generated", "0.5*generated"):
        chosen = (
            settings_of(name, cost=cost, max_response_length=1000) if _limited(name) else settings_of(name, cost=cost)
        )
        paid = priced(counted(rows), chosen)
        outcome = ESTIMATORS[name].function()(paid, chosen, ESTIMATORS[name].new_state()).advantages_B
        assert outcome.isfinite().all()
        assert (outcome != 0).any()
        if cost == "3*generated":
            longer = dataclasses.replace(counted(rows), lengths_B=3 * counted(rows).lengths_B)
            plain = ESTIMATORS[name].function()(longer, chosen, ESTIMATORS[name].new_state()).advantages_B
            assert outcome.tolist() == pytest.approx(plain.tolist(), abs=1e-9)


def _limited(name):
    return hasattr(settings_of(name), "max_response_length")


@pytest.mark.parametrize("name", ["arora", "truncation", "cosine"])
def test_whether_an_answer_was_cut_off_goes_by_its_tokens(name):
    """A cost of a tenth of the tokens makes nobody look whole who was cut off: both are at the limit of 100 tokens."""
    rows = [Row(1.0, 100, "a"), Row(1.0, 40, "a"), Row(0.0, 100, "a"), Row(0.0, 30, "a")]
    given = {"max_response_length": 100, "advantage": "dr_grpo"}
    cheap = settings_of(name, cost="0.1*generated", **given)
    values = ESTIMATORS[name].function()(priced(counted(rows), cheap), cheap, ESTIMATORS[name].new_state()).advantages_B
    assert values[0] < values[1] - 0.3


# Thinking ------------------------------------------------------------------------------------------------------------------

PIECES = [
    "<think>",
    "</think>",
    "</",
    "<",
    "think",
    ">",
    ">\n\n",
    "a",
    "b",
    " ",
    "th",
    "ink",
    "->",
    "?>",
    "/",
    "Ġ",
    "<|end|>",
]


class Vocabulary:
    """As much of a tokenizer as counting needs; a token is its place in ``pieces``."""

    def __init__(self, pieces):
        self.numbers = {piece: number for number, piece in enumerate(pieces)}

    def get_vocab(self):
        return self.numbers


def thinking_of(*rows, opened=False, mask=None):
    vocabulary = Vocabulary(PIECES)
    responses = [torch.tensor([vocabulary.numbers[piece] for piece in row], dtype=torch.int64) for row in rows]
    masks = [torch.ones_like(row) if mask is None else torch.tensor(mask) for row in responses]
    return ThinkingCounter(vocabulary).count(responses, masks, [opened] * len(rows)).tolist()


@pytest.mark.parametrize(
    ("row", "closed", "opened"),
    [
        # tokens, thinking if the prompt has not opened it, and if it has
        (["<think>", "a", "</think>", "b", "b"], 3, 3),
        (["a", "a", "</think>", "b"], 3, 3),  # the template has opened it where nobody saw
        (["a", "b", "a"], 0, 3),  # no tag: all answer, or all thinking
        (["<think>", "a", "b"], 3, 3),  # cut off inside
        (["b", "<think>", "a", "</think>", "b"], 3, 4),  # an answer that thinks again
        (["<think>", "a", "</think>", "b", "<think>", "a", "a", "</think>"], 7, 7),
        (["a", "</think>", "b", "<think>", "a"], 4, 4),
        ([], 0, 0),
        # in pieces, and a last piece that goes on after the tag
        (["<", "think", ">", "a", "</", "think", ">\n\n", "b"], 7, 7),
        (["a", "</", "th", "ink", ">", "b"], 5, 5),
        (["a", "<", "/", "think", ">\n\n", "b", "b"], 5, 5),
        # what looks like a tag and is none
        (["a", "->", "b", ">", "?>"], 0, 5),
        (["think", ">", "a", "</", "a", ">"], 0, 6),
        (["<|end|>"], 0, 1),
    ],
)
def test_thinking_by_hand(row, closed, opened):
    assert thinking_of(row) == [closed]
    assert thinking_of(row, opened=True) == [opened]


def test_only_generated_tokens_count_as_thinking():
    """A tool wrote the two b, and the template the second <think>."""
    row = ["<think>", "a", "</think>", "b", "b", "<think>", "a", "</think>", "a"]
    assert thinking_of(row, mask=[1, 1, 1, 0, 0, 0, 1, 1, 1]) == [5]


def test_thinking_of_real_tokenizers():
    """The count is the same whether the tag is one token or one token per letter."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import models, pre_tokenizers

    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    plain = tokenizers.Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = tokenizers.Tokenizer.from_str(plain.to_str())
    special.add_special_tokens(["<think>", "</think>"])
    text, thought = "é<think>\n1 > 0?</think>\n\nö 4", "<think>\n1 > 0?</think>"
    for tokenizer, tokens in ((plain, len(thought)), (special, len(thought) - 15 + 2)):
        ids = torch.tensor(tokenizer.encode(text).ids)
        assert ThinkingCounter(tokenizer).count([ids], [torch.ones_like(ids)], [False]).tolist() == [tokens]


def test_ids_beyond_the_vocabulary_are_no_tags():
    counter = ThinkingCounter(Vocabulary(PIECES))
    ids = torch.tensor([999, 1, 999])
    assert counter.count([ids], [torch.ones(3)], [True]).tolist() == [2]
