#!/usr/bin/env bash
# Correctness, less a penalty for n-grams that a response repeats.
# `verl-efficiency methods repetition` lists the settings of the penalty. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train \
  reward.custom_reward_function.name=composition \
  +reward.custom_reward_function.reward_kwargs.terms="[{name: accuracy, weight: 1.0}, {name: repetition, weight: ${WEIGHT:-0.1}}]" \
  "$@"
