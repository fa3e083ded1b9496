"""Records the teacher's log-probabilities in ``$RECORD_TEACHER/<step>.pt`` (key → (n, K), for each routed row), and the keys of
all rows in the batch's order in ``<step>.json``. Each rank writes those that it keeps into ``<step>/<rank>.pt`` (row → (n, K)).

``VERL_USE_EXTERNAL_MODULES`` imports it. Without ``$RECORD_TEACHER`` it does nothing.
"""

import json
import os
from pathlib import Path

import wrapt


@wrapt.when_imported("verl_efficiency.verl.targets")
def _record_what_a_rank_keeps(module):
    if "RECORD_TEACHER" not in os.environ:
        return
    import torch

    @wrapt.patch_function_wrapper(module.TopkTargets, "note_logps")
    def note_logps(wrapped, self, args, kwargs):
        wrapped(*args, **kwargs)
        rank, step = torch.distributed.get_rank(), 1
        while (file := Path(os.environ["RECORD_TEACHER"]) / str(step) / f"{rank}.pt").exists():
            step += 1
        file.parent.mkdir(exist_ok=True, parents=True)
        torch.save(dict(self.logps), file)


@wrapt.when_imported("verl_efficiency.verl.self_teacher")
def _record(module):
    if "RECORD_TEACHER" not in os.environ:
        return
    import torch

    @wrapt.patch_function_wrapper(module.SelfTeacher, "teach")
    def teach(wrapped, self, args, kwargs):
        wrapped(*args, **kwargs)
        batch, rows, _ = args
        taught = self.plan_of_step.taught
        keys = [rows.keys[row] for row in taught]
        folder = Path(os.environ["RECORD_TEACHER"])
        folder.mkdir(exist_ok=True, parents=True)
        file = folder / f"{len(list(folder.glob('*.pt'))) + 1}.pt"
        if self.settings.full_logit_distillation:
            kept = {}
            for part in (folder / file.stem).glob("*.pt"):
                kept |= torch.load(part)
            data = [kept[row] for row in taught]
        else:
            data = module.read(keys, batch, "distil_teacher_logps")["distil_teacher_logps"].unbind()
        torch.save(dict(zip(keys, data, strict=True)), file)
        file.with_suffix(".json").write_text(json.dumps(list(batch.keys)))
