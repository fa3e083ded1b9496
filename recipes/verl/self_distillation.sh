#!/usr/bin/env bash
# Every rollout with a correct sibling or feedback learns from the self-teacher (SDPO).
# `verl-efficiency methods self_distillation` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train \
  algorithm.adv_estimator=self_distillation \
  trainer.v1.trainer_mode=efficiency_sync \
  actor_rollout_ref.actor.strategy=fsdp2 \
  "$@"
