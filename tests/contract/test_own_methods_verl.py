"""``docs/examples/flat_penalty``, installed by pip, is a method of verl's: registered, checked at start-up, and run at verl's
call site. A package that cannot be imported is installed beside it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("verl")

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "flat_penalty"
LAUNCH = [
    "algorithm.adv_estimator=flat_penalty",
    "+algorithm.efficiency.weight=0.3",
    "+algorithm.efficiency.advantage=dr_grpo",
    "actor_rollout_ref.rollout.n=8",
]
CODE = """
import json, sys
import numpy as np, torch, verl
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer import main_ppo
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl_efficiency.verl import doctor, start_up

launch = json.loads(sys.argv[1])
seen = {"known": [name for name in core_algos.ADV_ESTIMATOR_REGISTRY if "flat_penalty" in name or "of_broken" in name]}
seen["loaded"] = "flat_penalty" in sys.modules
config = doctor.compose([], launch)
seen["problems"] = start_up.check(config)
seen["misspelt"] = start_up.check(doctor.compose([], [*launch, "+algorithm.efficiency.wieght=1"]))
seen["broken"] = start_up.check(doctor.compose([], ["algorithm.adv_estimator=of_broken"]))
seen["findings"] = [list(finding) for finding in [*doctor.offered_methods(), *doctor.examine_configuration(launch)]]
mask, rewards = torch.zeros(3, 21, dtype=torch.int64), torch.zeros(3, 21)
for row, (score, length) in enumerate([(1.0, 10), (1.0, 20), (0.0, 5)]):
    mask[row, :length] = 1
    rewards[row, length - 1] = score
data = DataProto.from_dict(
    tensors={"token_level_rewards": rewards, "response_mask": mask},
    non_tensors={"uid": np.array(["a"] * 3, dtype=object)},
)
for name in ("flat_penalty", "efficiency.flat_penalty"):
    seen[name] = compute_advantage(data, adv_estimator=name, config=config.algorithm).batch["advantages"][:, 0].tolist()
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen(fresh, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(EXAMPLE, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder / "site", folder / "source"], check=True, timeout=120)
    info = folder / "site" / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[verl_efficiency.methods]\nof_broken = broken:method\n")
    (folder / "site" / "broken.py").write_text("raise RuntimeError('no licence')\n")
    path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))
    environment = {"PYTHONPATH": path, "VERL_USE_EXTERNAL_MODULES": "verl_efficiency.verl.plugin"}
    done = fresh("-c", CODE, json.dumps(LAUNCH), **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_it_is_registered_and_not_loaded(seen):
    assert sorted(seen["known"]) == ["efficiency.flat_penalty", "efficiency.of_broken", "flat_penalty", "of_broken"]
    assert not seen["loaded"]


def test_verl_computes_its_advantages(seen):
    mean = (0.85 + 0.7) / 3  # weight 0.3: the correct ones of 10 and 20 tokens lose 0.15 and 0.3
    for name in ("flat_penalty", "efficiency.flat_penalty"):
        assert seen[name] == pytest.approx([0.85 - mean, 0.7 - mean, -mean], abs=1e-6)


def test_the_start_up_check_reads_its_settings(seen):
    assert seen["problems"] == []
    (problem,) = seen["misspelt"]
    assert "algorithm.efficiency: unknown setting 'wieght'; did you mean 'weight'?" in problem


def test_a_broken_package_is_one_line_for_who_asks_for_it(seen):
    (problem,) = seen["broken"]
    for word in ("of_broken", "broken 1.0", "RuntimeError", "no licence"):
        assert word in problem


def test_doctor_says_whose_it_is_and_what_is_broken(seen):
    texts = {level: [text for found, text in seen["findings"] if found == level] for level in ("ok", "warn", "fail")}
    assert any("flat_penalty of flat-penalty 1.0" in text for text in texts["ok"])
    assert any("FlatPenaltySettings(" in text and "weight=0.3" in text for text in texts["ok"])
    (warning,) = texts["warn"]
    assert "broken 1.0" in warning
    assert texts["fail"] == []
