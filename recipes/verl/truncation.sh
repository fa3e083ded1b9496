#!/usr/bin/env bash
# DLER: a truncated answer keeps a fraction of its reward; correct answers get a small extra advantage. The limit does the rest:
# set RESPONSE_TOKENS well below what the model uses today.
# As published: 16 rollouts, 4000 tokens, the batch-wise advantage of REINFORCE++, clip-high, no groups that are all right or all
# wrong. Not as published: no KL term (DLER: actor.use_kl_loss=True actor.kl_loss_coef=0.0005).
# `verl-efficiency methods truncation` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

: "${GROUP:=16}" "${RESPONSE_TOKENS:=4000}"
train algorithm.adv_estimator=truncation \
  +algorithm.efficiency.advantage=batch \
  algorithm.filter_groups.enable=True \
  algorithm.filter_groups.metric=acc \
  actor_rollout_ref.actor.clip_ratio_high=0.28 "$@"
