"""Batches for the tests of this folder, and one way to run a method on them."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import torch

from tests.unit.reference import Row
from tests.unit.test_rollouts import build
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.outcome import Outcome

LIMIT = 300  # tokens; rollouts of the random batches are at most that long
NAMES = (
    *("arora", "kimi", "laser", "laser_d", "laser_de", "short_rl", "alp", "dast", "shorter_better", "grpo_lead", "gr3"),
    *(
        "hapo",
        "leash",
        "a_dlp",
        "drpo",
        "cosine",
        "truncation",
        "overlong",
        "toggle",
        "pass_rate",
        "grlc",
        "gfpo",
        "grpo_roc",
        "s_grpo",
    ),
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


def settings_of(name: str, **given: Any) -> Any:
    """Settings of ``name``: the usual ones of these tests, with the limit where it has one, and ``given`` on top."""
    chosen = {**USUAL.get(name, {}), **given}
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
