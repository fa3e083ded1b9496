"""Batches for the tests of this folder, and one way to run a method on them.

The tests for all methods take what they cannot know from the method's own file, ``test_<name>.py`` in this folder:

* ``formula(rows, settings, state)``: the advantages once more in plain Python, like those in formulas.py;
* ``USUAL``: settings at which length matters on these batches (up to 300 tokens);
* ``VARIANTS``: a list of other settings that change the formula;
* ``TRAITS``: which of :data:`TRAITS` it has;
* ``ANY_NUMBER``: its settings that take any number.

All but ``formula`` may be left out.
"""

import dataclasses
import importlib
import importlib.util
import random
from collections.abc import Sequence
from typing import Any

import torch

from tests.unit.reference import Row
from tests.unit.test_rollouts import build
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.outcome import Outcome

LIMIT = 300  # tokens; rollouts of the random batches are at most that long
# All of the families shaping and selection but two, whose tests are test_token_budget.py and test_t_spmo.py.
NAMES = tuple(
    name
    for name, method in ESTIMATORS.items()
    if method.family in ("shaping", "selection") and name not in ("token_budget", "t_spmo")
)
# Settings at which length matters on batches of a few hundred tokens.
USUAL: dict[str, dict[str, Any]] = {
    "laser": {"target_length": 120.0},
    "laser_d": {"update_every": 2},
    "laser_de": {"update_every": 2},
    "short_rl": {"length_tolerance": 30.0},
    "alp": {"beta": 0.002},
    "leash": {"target_length": 100.0, "initial_price": 0.3, "step": 0.2},
    "a_dlp": {"step": 0.002},
    "overlong": {"buffer": 200},
    "custom": {"shaper": "verl_efficiency.methods.shaping.arora.arora"},
    "toggle": {"phase_steps": 2},
}


TRAITS: dict[str, set[str]] = {
    # Of two wrong rollouts of a group the shorter one may get more.
    "rewards_short_wrong": {
        *("kimi", "alp", "shorter_better", "hapo", "a_dlp", "pass_rate", "grlc", "overlong"),
        "grpo_roc",  # it keeps wrong ones as they come
    },
    # Groups without a correct rollout have advantages.
    "shapes_unsolved": {
        *("kimi", "alp", "shorter_better", "a_dlp", "dast", "cosine", "laser_de", "hapo", "overlong", "grlc"),
    },
    # It is not GRPO where all lengths of a group are equal.
    "equal_lengths_matter": {
        "grpo_lead",  # weighs groups by their solve rate
        "drpo",  # has its own advantage, on another scale than GRPO's
        "truncation",  # adds its boost to correct answers
        *("gfpo", "grpo_roc"),  # drop half of a group
        *("variance_routing", "sample_routing", "self_distillation", "concise_teacher"),
    },
}


def declared(name: str, what: str, default: Any) -> Any:
    """What the method's own test file says."""
    module = f"{__package__}.test_{name}"
    return getattr(importlib.import_module(module), what, default) if importlib.util.find_spec(module) else default


def has(name: str, trait: str) -> bool:
    return name in TRAITS[trait] or trait in declared(name, "TRAITS", ())


def settings_of(name: str, **given: Any) -> Any:
    """Settings of ``name``: the usual ones of these tests, with the limit where it has one, and ``given`` on top."""
    chosen = {**(USUAL.get(name) or declared(name, "USUAL", {})), **given}
    if hasattr(ESTIMATORS[name].settings_class(), "max_response_length"):
        chosen.setdefault("max_response_length", LIMIT)
    return ESTIMATORS[name].build_settings(chosen, "here")


def run(name: str, rows: Sequence[Row], settings: Any, state: Any = None) -> Outcome:
    """One step; a prompt's name is its group's label."""
    rollouts = build(rows, correct_threshold=settings.correct_threshold)
    rollouts = dataclasses.replace(
        rollouts,
        prompt_ids_G=rollouts.labels_G,
        thinking_B=torch.tensor([row.thinking for row in rows], dtype=torch.int64),
        turns_B=torch.tensor([row.turns for row in rows], dtype=torch.int64),
        context_B=torch.tensor([row.context for row in rows], dtype=torch.int64),
    )
    return ESTIMATORS[name].function()(rollouts, settings, ESTIMATORS[name].new_state() if state is None else state)


def advantages(name: str, rows: Sequence[Row], settings: Any, state: Any = None) -> list[float]:
    return run(name, rows, settings, state).advantages_B.tolist()


def random_rows(rng: random.Random, *, graded: bool = False, wrong_score: float = 0.0, groups: int = 6) -> list[Row]:
    """Groups of one to nine with ties in score and length, all right, all wrong, empty and cut-off answers, and padding."""
    rows = []
    for group in range(groups):
        kind = rng.choice(["mixed", "mixed", "right", "wrong", "alone"])
        lengths = [0, LIMIT, *(rng.randint(1, LIMIT) for _ in range(3))]  # few, so that ties are common
        for _ in range(1 if kind == "alone" else rng.randint(2, 9)):
            right = {"right": True, "wrong": False}.get(kind, rng.random() < 0.5)
            score = 1.0 if right else wrong_score
            if graded:
                score = rng.choice([0.5, 0.7, 1.0, 2.0] if right else [-1.0, 0.0, 0.25, 0.49])
            rows.append(Row(score, rng.choice(lengths), f"g{group}"))
    rows += [Row(0.0, 0, f"pad{number}", real=False) for number in range(rng.randint(0, 3))]
    rng.shuffle(rows)
    return rows
