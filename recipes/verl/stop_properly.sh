#!/usr/bin/env bash
# A response that the token limit cut off is worth nothing, or COEF of its score (below 0: that score, whether correct or not).
# `verl-efficiency methods stop_properly` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train \
  reward.custom_reward_function.name=stop_properly \
  +reward.custom_reward_function.reward_kwargs.coef="${COEF:-0.0}" \
  "$@"
