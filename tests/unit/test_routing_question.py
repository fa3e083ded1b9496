"""The answer to ``routing``: its curves over steps and seconds."""

import json

import pytest

from benchmarks import compare
from benchmarks.questions import routing


def test_curves_by_hand(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    table = compare.table_of("routing")
    lines = []
    for run in table.runs([], [(16.0, 0.5), (26.0, 1.0)]):
        if run.arm in ("grpo", "sample_routing"):
            later = 0.9 + run.seed / 100 if run.arm == "grpo" else 0.8
            scores = [{"step": 0, "accuracy": 0.85, "tokens": 46.0}, {"step": 25, "accuracy": later, "tokens": 50.0}]
            test = {"accuracy": later, "tokens": 50.0, "accuracy_by_level": [1.0], "tokens_by_level": [50]}
            seconds = {"step": 2.0 + run.seed, "whole": 90.0}
            lines.append({"run": run.key, "validation": scores, "seconds": seconds, "test": test})
    routing.write_report(table, lines, tmp_path / "routing")
    grpo, srpo = json.loads((tmp_path / "routing.json").read_text())["curves"]
    assert (grpo["arm"], srpo["arm"], grpo["seeds"]) == ("grpo", "sample_routing", 3)
    assert (grpo["steps"], grpo["seconds"]) == ([0, 25], [0, 100])  # the last seed takes 4 s a step
    assert (grpo["accuracy"], grpo["tokens"]) == ([0.85, 0.91], [46, 50])
    assert grpo["accuracy_interval"] == [0, pytest.approx(4.30 * 0.01 / 3**0.5, abs=1e-4)]  # t · s / √n
    assert (srpo["accuracy"], srpo["accuracy_interval"]) == ([0.85, 0.8], [0, 0])
    assert (tmp_path / "routing.png").read_bytes().startswith(b"\x89PNG")
    assert "sample_routing" in capsys.readouterr().out
