#!/usr/bin/env bash
# Every rollout with a correct sibling or feedback learns from the self-teacher (SDPO).
# As SDPO publishes it: learning rate 1e-5, 32 prompts, and weights of at most 2 for the tokens that trainer and rollout see
# differently.
# `verl-efficiency methods self_distillation` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

: "${LR:=1e-5}" "${BATCH:=32}"
train \
  algorithm.adv_estimator=self_distillation \
  trainer.v1.trainer_mode=efficiency_sync \
  actor_rollout_ref.actor.strategy=fsdp2 \
  algorithm.rollout_correction.rollout_is=token \
  algorithm.rollout_correction.rollout_is_threshold=2.0 \
  "$@"
