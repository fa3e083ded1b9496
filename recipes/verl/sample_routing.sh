#!/usr/bin/env bash
# A wrong rollout with a correct sibling learns from the self-teacher, everything else by GRPO (SRPO).
# As SRPO publishes it: learning rate 5e-6, 32 prompts, clip-high 0.28, and weights of at most 2 for the tokens that trainer and
# rollout see differently. Departs from it: no warm-up (SRPO: actor_rollout_ref.actor.optim.lr_warmup_steps=10).
# `verl-efficiency methods sample_routing` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

: "${LR:=5e-6}" "${BATCH:=32}"
train \
  algorithm.adv_estimator=sample_routing \
  trainer.v1.trainer_mode=efficiency_sync \
  actor_rollout_ref.actor.strategy=fsdp2 \
  actor_rollout_ref.actor.clip_ratio_high=0.28 \
  algorithm.rollout_correction.rollout_is=token \
  algorithm.rollout_correction.rollout_is_threshold=2.0 \
  "$@"
