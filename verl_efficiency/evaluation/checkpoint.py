"""Finds the Hugging Face weights in a model folder, a verl checkpoint or the folder of a run."""

from pathlib import Path

from verl_efficiency.settings import SettingsError

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
FIX = (
    "verl writes Hugging Face weights only with "
    "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]; "
    "to convert a checkpoint without them: `python -m verl.model_merger merge --backend fsdp "
    "--local_dir global_step_N/actor --target_dir global_step_N/actor/huggingface`"
)


def resolve_model(model: str | Path) -> str:
    """The folder with the weights, or ``model`` itself if it is a name on the Hugging Face hub (``owner/name``).

    ``model`` may be a model folder, ``…/actor/huggingface``, ``…/actor``, ``…/global_step_N``, or the folder of a run
    (``trainer.default_local_dir``). For a run, the latest step is used.

    Raises:
        SettingsError: the folder does not exist, or has no weights; the message lists the places searched.
    """
    path = Path(model)
    if not path.is_dir():
        is_hub_name = isinstance(model, str) and model.count("/") == 1 and not model.startswith((".", "/", "~"))
        if is_hub_name and not path.parent.exists():
            return str(model)
        raise SettingsError(f"model: there is no folder {str(path)!r}, and it is not a name on the hub (owner/name)")
    step = _latest_step(path)
    places = [place for root in ([step] if step else [path]) for place in _places(root)]
    for place in places:
        if (place / "config.json").is_file() and any(any(place.glob(pattern)) for pattern in WEIGHTS):
            return str(place)
    looked = ", ".join(str(place) for place in places)
    raise SettingsError(f"model: no config.json with {' or '.join(WEIGHTS)} in any of: {looked}. {FIX}")


def _places(root: Path) -> list[Path]:
    return [root, root / "huggingface", root / "actor" / "huggingface"]


def _latest_step(run: Path) -> Path | None:
    steps = [path for path in run.glob("global_step_*") if path.name.removeprefix("global_step_").isdigit()]
    return max(steps, key=lambda path: int(path.name.removeprefix("global_step_")), default=None)
