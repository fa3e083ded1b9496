"""``verl-efficiency train``: verl's own launch with our trainer."""

import runpy
import sys

import typer

from verl_efficiency.settings import SettingsError
from verl_efficiency.verl.modes import MODES, SYNC

MODE = "trainer.v1.trainer_mode="


def train_command(context: typer.Context) -> None:
    """Train with verl and one of our trainers: takes exactly what python -m verl.trainer.main_ppo takes.

    They are verl's trainers. They also run the methods that need a self-teacher or the tokens of the responses, and log every
    reward component and method statistic. Without trainer.v1.trainer_mode it is efficiency_sync.
    """
    mode = SYNC
    for text in context.args:
        if text.lstrip("+").startswith(MODE):
            mode = text.partition("=")[2]
            if mode not in MODES:
                raise SettingsError(
                    f"{text}: this command takes {', '.join(MODES)}; write one of them, or launch verl.trainer.main_ppo"
                )
    # Importing verl loads its plugins. Where ours is not among them, get_trainer_cls fails here, with one line.
    try:
        from verl.trainer.ppo.v1 import get_trainer_cls
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "verl":
            raise
        raise SettingsError(
            f"train: there is no module {error.name}; the trainer needs verl>=0.9: pip install verl==0.9.1"
        ) from None

    get_trainer_cls(mode)
    sys.argv = ["verl.trainer.main_ppo", *context.args, f"{MODE}{mode}"]
    runpy.run_module("verl.trainer.main_ppo", run_name="__main__", alter_sys=True)
