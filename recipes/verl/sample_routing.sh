#!/usr/bin/env bash
# SRPO: a wrong rollout with a correct sibling learns from the self-teacher, all others by GRPO.
# As published: learning rate 5e-6, 32 prompts, clip-high 0.28, token importance weights of at most 2 between trainer and rollout.
# Not as published: no warm-up (SRPO: actor_rollout_ref.actor.optim.lr_warmup_steps=10).
# `verl-efficiency methods sample_routing` shows the settings; _common.sh explains the variables.
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
