"""recipes/quickstart.sh: verl and our start-up check accept both runs of both tasks, and doctor finds each wrong value."""

import os
import re
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("verl")

from verl_efficiency.verl import start_up

SCRIPT = Path(__file__).parents[2] / "recipes" / "quickstart.sh"


@pytest.mark.parametrize(
    ("task", "steps", "tokens"), [("checks", (34, 34), (130, 190)), ("notes", (50, 50), (115, 66))]
)
def test_both_runs_are_accepted(task, steps, tokens, compose, missed, data_file, tmp_path):
    known = os.environ | {"DRY_RUN": "1", "TASK": task, "RUNS": str(tmp_path)}
    done = subprocess.run(["bash", str(SCRIPT)], env=known, capture_output=True, text=True, timeout=60, check=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data" / "model").mkdir(parents=True)
    rows = pq.read_table(data_file).to_pylist()
    for place, row in enumerate(rows):
        row["extra_info"] |= {"segment": place, "level": place}
    for split in ("train", "test"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / f"{split}.parquet")

    runs = re.split(r"\n\S*\[ *\d+ s\] \d/5 training: (\w+).*\n", done.stdout)[1:]
    assert runs[::2] == ["batched_accuracy", "token_budget"]
    for run, text in enumerate(runs[1::2]):
        overrides = re.split(r"\n(?=\+?[\w.]+=)", text.strip())  # a value may hold a line break
        launched = [override for override in overrides if not override.startswith("hydra.")]
        config = compose(*launched)
        assert start_up.check(config) == []
        assert config.trainer.total_training_steps == config.trainer.save_freq == steps[run]
        assert config.data.max_response_length == tokens[run]
        assert config.trainer.device == "cpu"
        assert missed(launched) == []
