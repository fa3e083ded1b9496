#!/usr/bin/env bash
# A cut-off answer keeps a fraction of its reward; correct ones get a little advantage on top. The limit does the rest: set
# RESPONSE_TOKENS well below what the model uses today.
# As DLER publishes it: 16 rollouts, 4000 tokens, the batch-wise advantage of REINFORCE++, clip-high, and no groups that are all
# right or all wrong. Departs from it: no KL term (DLER: 0.0005, actor.use_kl_loss=True actor.kl_loss_coef=0.0005).
# `verl-efficiency methods truncation` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

: "${GROUP:=16}" "${RESPONSE_TOKENS:=4000}"
train algorithm.adv_estimator=truncation \
  +algorithm.efficiency.advantage=batch \
  algorithm.filter_groups.enable=True \
  algorithm.filter_groups.metric=acc \
  actor_rollout_ref.actor.clip_ratio_high=0.28 "$@"
