#!/usr/bin/env bash
# The model, told to be concise, teaches itself on every rollout. The reward is only logged. As CRISP publishes it: BATCH=32
# GROUP=1.
# `verl-efficiency methods concise_teacher` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train \
  algorithm.adv_estimator=concise_teacher \
  trainer.v1.trainer_mode=efficiency_sync \
  actor_rollout_ref.actor.strategy=fsdp2 \
  "$@"
