#!/usr/bin/env bash
# Correct rollouts compete by length only with each other. DRPO's loss takes the mean over the tokens of each rollout.
# `verl-efficiency methods drpo` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train algorithm.adv_estimator=drpo \
  actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean "$@"
