"""The launcher up to the first line of OpenRLHF's ``train``: everything is parsed and checked, nothing is started."""

import contextlib
import sys
from typing import Any
from unittest.mock import patch

from verl_efficiency.openrlhf.train import launch


class Parsed(Exception):
    """``train`` was called with these arguments."""

    def __init__(self, args: Any) -> None:
        self.args_of_train = args


REWARDS = {"--efficiency.reward", "--reward.remote_url", "--train.agent_func_path", "--reward.model_name_or_path"}


def parse(flags: list[str]) -> Any:
    """The arguments of ``train``, as the stock command line and our launcher make them; with a reward model if no reward."""
    import openrlhf.utils.config as config
    import ray

    if not REWARDS & set(flags):
        flags = [*flags, "--reward.model_name_or_path", "a-reward-model"]

    def stop() -> None:
        raise Parsed(sys._getframe(1).f_locals["args"])

    with (
        patch.object(ray, "is_initialized", stop),
        patch.object(config, "hierarchize", config.hierarchize),
        patch.object(sys, "argv", ["train"]),
        contextlib.redirect_stdout(sys.stderr),
    ):
        try:
            launch(flags)
        except Parsed as parsed:
            return parsed.args_of_train
    raise AssertionError("OpenRLHF's train was not reached")
