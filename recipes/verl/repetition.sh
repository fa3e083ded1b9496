#!/usr/bin/env bash
# Correctness minus WEIGHT times the share of repeated n-grams.
# `verl-efficiency methods repetition` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train \
  reward.custom_reward_function.name=composition \
  +reward.custom_reward_function.reward_kwargs.terms="[{name: accuracy, weight: 1.0}, {name: repetition, weight: ${WEIGHT:-0.1}}]" \
  "$@"
