"""The state of our methods, saved with verl's checkpoints and restored with them.

verl 0.9 builds the class named by ``trainer.checkpoint_callback_class`` on the driver before the first step, and calls
``on_save`` after every checkpoint (``trainer/ppo/checkpoint_callback.py``). The start-up check fills in that key for methods
with a state. Your own callback: derive it from :class:`StateCallback` and call ``super()`` in both methods.
"""

import json
import logging
from pathlib import Path
from typing import Any

from verl.trainer.ppo.checkpoint_callback import CheckpointCallback
from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path

from verl_efficiency.verl import run

logger = logging.getLogger("verl_efficiency")
FILE_NAME = "verl_efficiency.json"


class StateCallback(CheckpointCallback):
    """Writes the states of the methods into each checkpoint folder, and reads them back when a run resumes."""

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        run.reset()
        folder = _resumed_folder(config.trainer)
        if folder is None:
            return
        file = Path(folder) / FILE_NAME
        if not file.exists():
            logger.warning(
                "resuming from %s, which has no %s: the state of algorithm.adv_estimator=%s starts again.",
                *(folder, FILE_NAME, config.algorithm.adv_estimator),
            )
            return
        run.load_states(json.loads(file.read_text()))

    def on_save(self, trainer: Any, global_step: int, checkpoint_dir: str, async_save: bool = False, **kwargs) -> None:
        super().on_save(trainer, global_step, checkpoint_dir, async_save, **kwargs)
        (Path(checkpoint_dir) / FILE_NAME).write_text(json.dumps(run.dump_states()))


def _resumed_folder(trainer: Any) -> str | None:
    """The checkpoint that verl will resume from, by the rules of ``_load_checkpoint`` (trainer_base.py:851, 0.9.1)."""
    if trainer.resume_mode == "auto":
        return find_latest_ckpt_path(str(Path(trainer.default_local_dir).absolute()))
    if trainer.resume_mode == "resume_path":
        return str(Path(trainer.resume_from_path).absolute())
    return None
