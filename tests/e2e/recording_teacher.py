"""Records the teacher's log-probabilities in ``$RECORD_TEACHER/<step>.pt`` (key → (n, K), for each routed row), and the keys of
all rows in the batch's order in ``<step>.json``.

``VERL_USE_EXTERNAL_MODULES`` imports it. Without ``$RECORD_TEACHER`` it does nothing.
"""

import json
import os
from pathlib import Path

import wrapt


@wrapt.when_imported("verl_efficiency.verl.self_teacher")
def _record(module):
    if "RECORD_TEACHER" not in os.environ:
        return
    import torch

    @wrapt.patch_function_wrapper(module.SelfTeacher, "teach")
    def teach(wrapped, self, args, kwargs):
        wrapped(*args, **kwargs)
        batch, rows, _ = args
        keys = [rows.keys[row] for row in self.plan_of_step.taught]
        folder = Path(os.environ["RECORD_TEACHER"])
        folder.mkdir(exist_ok=True, parents=True)
        data = module.read(keys, batch, "distil_teacher_logps")["distil_teacher_logps"].unbind()
        file = folder / f"{len(list(folder.glob('*.pt'))) + 1}.pt"
        torch.save(dict(zip(keys, data, strict=True)), file)
        file.with_suffix(".json").write_text(json.dumps(list(batch.keys)))
