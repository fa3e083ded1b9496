"""verl's policy loss, which also appends the advantage of every token to the file ``$RECORD_ADVANTAGES``.

``VERL_USE_EXTERNAL_MODULES`` imports it, ``actor.policy_loss.loss_mode=recording`` selects it.
"""

import json
import os

import wrapt


@wrapt.when_imported("verl.trainer.ppo.core_algos")
def _register(core_algos):
    @core_algos.register_policy_loss("recording")
    def recording(*, advantages, response_mask, **others):
        rows = [row[mask].tolist() for row, mask in zip(advantages, response_mask.bool(), strict=True)]
        with open(os.environ["RECORD_ADVANTAGES"], "a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
        return core_algos.compute_policy_loss_vanilla(advantages=advantages, response_mask=response_mask, **others)
