#!/usr/bin/env bash
# SDPO: every rollout with a correct sibling or feedback learns from the self-teacher.
# As published: learning rate 1e-5, 32 prompts, token importance weights of at most 2 between trainer and rollout.
# `verl-efficiency methods self_distillation` shows the settings; _common.sh explains the variables.
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
