"""Start a recipe for real machines, or look at all of them.

    python -m recipes.cluster.launch                        the table, with estimates of memory and time
    python -m recipes.cluster.launch NAME                   train; the data lies in ./data (python -m recipes.cluster.data)
    python -m recipes.cluster.launch NAME --doctor          check it with `verl-efficiency doctor`, start nothing
    python -m recipes.cluster.launch NAME --dry-run         print the overrides that verl would get, one per line
    python -m recipes.cluster.launch NAME KEY=VALUE …       more settings of verl, which have the last word

MODEL, TRAIN, VAL, GPUS, NODES, BATCH, ROLLOUT and the other variables of recipes/verl/_common.sh win over the table.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from recipes.cluster.estimate import estimate, micro_batch
from recipes.cluster.table import MACHINES, MODELS, RECIPES, Recipe
from verl_efficiency.settings import SettingsError, unknown

ROOT = Path(__file__).parents[2]
MODULES = "VERL_USE_EXTERNAL_MODULES"


def rollout_name() -> str:
    """The rollout that ``recipes/verl/_common.sh`` takes: vllm or hf."""
    return os.environ.get("ROLLOUT") or ("hf" if os.environ.get("GPUS") == "0" else "vllm")


def modules() -> str:
    """What verl imports in every process, as ``recipes/verl/_common.sh`` exports it: the user's modules, then ours."""
    named = [name.strip() for name in os.environ.get(MODULES, "").split(",") if name.strip()]
    ours = ["verl_efficiency.verl.plugin"]
    if rollout_name() == "hf" and os.environ.get("GPUS") != "0":  # CPU mode registers hf by itself
        ours.append("verl_efficiency.verl.cpu.hf")
    return ",".join(dict.fromkeys([*named, *ours]))


def variables(name: str, recipe: Recipe, data: Path) -> dict[str, str]:
    """The variables of ``recipes/verl/_common.sh``, without those that are set already."""
    machine = MACHINES[recipe.machine]
    values = {
        "NAME": name,
        "MODEL": MODELS[recipe.model].hub,
        "TRAIN": data.resolve() / f"{recipe.train}.parquet",
        "VAL": data.resolve() / f"{recipe.val}.parquet",
        "GPUS": machine.gpus,
        "NODES": machine.nodes,
        "BATCH": recipe.batch,
        "GROUP": recipe.group,
        "PROMPT_TOKENS": recipe.prompt,
        "RESPONSE_TOKENS": recipe.response,
        "LR": recipe.lr,
        "STEPS": recipe.steps,
        "TOKENS_PER_GPU": micro_batch(recipe),
        **recipe.variables,
    }
    return {key: str(value) for key, value in values.items() if key not in os.environ}


def overrides(name: str, recipe: Recipe) -> list[str]:
    """The settings that the table adds to those of the method's recipe."""
    rollout, vllm = "actor_rollout_ref.rollout", rollout_name() == "vllm"
    # The workers of a Ray cluster that is running already do not inherit the environment of the launch.
    environment = "+ray_kwargs.ray_init.runtime_env.env_vars"
    metrics = Path(os.environ.get("RUNS") or "runs").resolve() / os.environ.get("NAME", name) / "metrics.jsonl"
    settings = [
        f"{environment}.{MODULES}='{modules()}'",
        f"{environment}.VERL_FILE_LOGGER_PATH={metrics}",
        f"{rollout}.tensor_model_parallel_size={recipe.tensor_parallel if vllm else 1}",
        f"{rollout}.gpu_memory_utilization={recipe.vllm_share}",
        f"{rollout}.max_model_len={recipe.prompt + recipe.response}",
        "trainer.save_freq=20",
        "trainer.test_freq=20",
    ]
    if recipe.lora:
        settings += [
            f"actor_rollout_ref.model.lora_rank={recipe.lora}",
            f"actor_rollout_ref.model.lora_alpha={2 * recipe.lora}",
        ]
    if recipe.lora and vllm:
        # vLLM needs the base weights, which verl then never sends. hf gets weights with the adapter in them.
        settings += [f"{rollout}.load_format=safetensors", f"{rollout}.layered_summon=True"]
    return [*settings, *recipe.overrides]


def run(name: str, recipe: Recipe, data: Path, more: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """``recipes/verl/train.sh METHOD``; with ``DRY_RUN="1"`` its output is captured."""
    command = ["bash", str(ROOT / "recipes" / "verl" / "train.sh"), recipe.method, *overrides(name, recipe), *more]
    values = {**os.environ, **variables(name, recipe, data), **environment}
    captured = "DRY_RUN" in environment
    return subprocess.run(command, env=values, check=False, text=True, stdout=subprocess.PIPE if captured else None)


def dry_run(name: str, recipe: Recipe, data: Path, more: list[str]) -> list[str]:
    """Every override that verl would get."""
    done = run(name, recipe, data, more, DRY_RUN="1")
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout.splitlines()


def show() -> None:
    """Print the table."""
    head = f"{'recipe':<31}{'method':<17}{'model':<18}{'machine':>8}{'states':>8}{'update':>8}{'vLLM':>6}{'peak':>6}"
    print(f"{head} GiB {'step':>6} s {'all':>6} h  what")
    for name, recipe in RECIPES.items():
        found = estimate(recipe)
        row = f"{name:<31}{recipe.method:<17}{recipe.model:<18}{recipe.machine:>8}{found.states:>8.1f}{found.update:>8.1f}"
        row += f"{found.rollout:>6.0f}{found.peak:>6.0f}     {found.step_seconds:>6.0f}  "
        print(f"{row} {found.step_seconds * recipe.steps / 3600:>6.1f}    {recipe.about}")
    print("by the formulas of recipes/cluster/estimate.py; nothing of this was measured")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help="a recipe; without it, the table")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the parquet files (default: data)")
    parser.add_argument("--doctor", action="store_true", help="check the configuration and the data, start nothing")
    parser.add_argument("--dry-run", action="store_true", help="print the overrides, start nothing")
    options, more = parser.parse_known_args()
    if options.name is None:
        show()
        return
    if options.name not in RECIPES:
        raise SystemExit(unknown("recipe", options.name, RECIPES))
    if wrong := [argument for argument in more if "=" not in argument]:
        raise SystemExit(f"{wrong[0]}: must be KEY=VALUE, a setting of verl")
    recipe = RECIPES[options.name]
    if options.dry_run:
        print("\n".join(dry_run(options.name, recipe, options.data, more)))
    elif options.doctor:
        doctor = shutil.which("verl-efficiency") or str(Path(sys.executable).with_name("verl-efficiency"))
        command = [doctor, "doctor", *dry_run(options.name, recipe, options.data, more)]
        raise SystemExit(subprocess.run(command, env={**os.environ, MODULES: modules()}, check=False).returncode)
    else:
        raise SystemExit(run(options.name, recipe, options.data, more).returncode)


if __name__ == "__main__":
    try:
        main()
    except SettingsError as error:
        raise SystemExit(str(error)) from None
