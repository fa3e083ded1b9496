#!/usr/bin/env bash
# GRPO in groups whose rewards vary; in the others imitation of the shortest correct rollout.
# With a teacher, also for all-wrong groups: add trainer.v1.trainer_mode=efficiency_sync actor_rollout_ref.actor.strategy=fsdp2
# +algorithm.efficiency.distil=True +algorithm.efficiency.reference_column=extra_info.answer (a column with worked solutions).
# `verl-efficiency methods variance_routing` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train algorithm.adv_estimator=variance_routing "$@"
