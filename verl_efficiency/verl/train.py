"""``verl-efficiency train``: verl's own launch with our trainer."""

import runpy
import sys
from typing import Annotated

import typer

from verl_efficiency.settings import SettingsError


def train_command(
    context: typer.Context,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Exactly what python -m verl.trainer.main_ppo takes.")
    ] = None,
) -> None:
    """Train with verl: python -m verl.trainer.main_ppo with trainer.v1.trainer_mode=efficiency_sync.

    That trainer does what verl's sync trainer does, runs the methods that need a self-teacher or the responses' tokens, and
    logs every reward component and method statistic.
    """
    given = [*(overrides or []), *context.args]
    mode = [text for text in given if text.lstrip("+").startswith("trainer.v1.trainer_mode=")]
    if any(not text.endswith("=efficiency_sync") for text in mode):
        raise SettingsError(
            f"{mode[0]}: this command is for efficiency_sync; leave it out, or launch python -m verl.trainer.main_ppo"
        )
    import verl  # noqa: F401  # imports the plugins
    from verl.trainer.ppo.v1.trainer_base import get_trainer_cls  # fails with one line if there is no such trainer

    get_trainer_cls("efficiency_sync")
    sys.argv = ["verl.trainer.main_ppo", "trainer.v1.trainer_mode=efficiency_sync", *given]
    runpy.run_module("verl.trainer.main_ppo", run_name="__main__", alter_sys=True)
