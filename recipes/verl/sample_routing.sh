#!/usr/bin/env bash
# A wrong rollout with a correct sibling learns from the self-teacher, everything else by GRPO (SRPO).
# `verl-efficiency methods sample_routing` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train \
  algorithm.adv_estimator=sample_routing \
  trainer.v1.trainer_mode=efficiency_sync \
  actor_rollout_ref.actor.strategy=fsdp2 \
  "$@"
