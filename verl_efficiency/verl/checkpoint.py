"""The state of our methods, saved with verl's checkpoints and restored with them.

verl 0.9 builds the class named by ``trainer.checkpoint_callback_class`` on the driver before the first step, and calls
``on_save`` after every checkpoint (``trainer/ppo/checkpoint_callback.py``). The start-up check fills in that key for methods
with a state. Your own callback: derive it from :class:`StateCallback` and call ``super()`` in both methods.

The files stand in ``global_step_N`` beside verl's ``data.pt``, and also below ``trainer.default_hdfs_dir`` if it is set.
"""

from pathlib import Path
from typing import Any

from verl.trainer.ppo.checkpoint_callback import CheckpointCallback
from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path

from verl_efficiency.adapter.state import StateFiles
from verl_efficiency.verl import run
from verl_efficiency.verl.checks.estimator import estimator_of, settings_of
from verl_efficiency.verl.hdfs import upload


class StateCallback(CheckpointCallback):
    """Writes the states of the methods into each checkpoint folder, and reads them back when a run resumes.

    Raises:
        SettingsError: the checkpoint to resume from has no state of the method; see :mod:`verl_efficiency.adapter.state`.
    """

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        run.reset()
        self.files = StateFiles()
        method = estimator_of(config)
        self.method = method if method and settings_of(method, config).keeps_state else None
        folder = _resumed_folder(config.trainer)
        if self.method is None or folder is None:
            return
        state = self.files.read(self.method, folder)
        if state is not None:
            run.set_state(self.method, state)

    def on_save(self, trainer: Any, global_step: int, checkpoint_dir: str, async_save: bool = False, **kwargs) -> None:
        super().on_save(trainer, global_step, checkpoint_dir, async_save, **kwargs)
        if self.method is None:
            return
        files = self.files.write({self.method.name: run.state_of(self.method)}, checkpoint_dir)
        remote = self.config.trainer.get("default_hdfs_dir")
        upload(files, checkpoint_dir, remote and f"{remote}/global_step_{global_step}")


def _resumed_folder(trainer: Any) -> str | None:
    """The checkpoint that verl will resume from, by the rules of ``_load_checkpoint`` (trainer_base.py:851, 0.9.1)."""
    if trainer.resume_mode == "auto":
        return find_latest_ckpt_path(str(Path(trainer.default_local_dir).absolute()))
    if trainer.resume_mode == "resume_path":
        return str(Path(trainer.resume_from_path).absolute())
    return None
