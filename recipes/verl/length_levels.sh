#!/usr/bin/env bash
# Short, medium and long reasoning on demand. TRAIN and VAL ask for a level in the prompt, and name it (short, medium or long) in
# the column extra_info.length_level; written by
#   verl-efficiency pack problems.parquet train.parquet --problems 1 --levels --seed 0
# `verl-efficiency methods length_levels` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train reward.custom_reward_function.name=length_levels "$@"
