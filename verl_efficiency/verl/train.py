"""``verl-efficiency train``: verl's own launch with our trainer."""

import runpy
import sys

import typer

from verl_efficiency.settings import SettingsError

MODE = "trainer.v1.trainer_mode="


def train_command(context: typer.Context) -> None:
    """Train with verl and the trainer efficiency_sync: takes exactly what python -m verl.trainer.main_ppo takes.

    That trainer is verl's sync trainer. It also runs the methods that need a self-teacher or the tokens of the responses, and
    logs every reward component and method statistic.
    """
    for text in context.args:
        if text.lstrip("+").startswith(MODE) and not text.endswith("=efficiency_sync"):
            raise SettingsError(
                f"{text}: this command sets efficiency_sync; leave it out, or launch verl.trainer.main_ppo"
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

    get_trainer_cls("efficiency_sync")
    sys.argv = ["verl.trainer.main_ppo", *context.args, f"{MODE}efficiency_sync"]
    runpy.run_module("verl.trainer.main_ppo", run_name="__main__", alter_sys=True)
