#!/usr/bin/env bash
# L1's LCPO-Max: no more tokens than the prompt allows. TRAIN and VAL state the limit in the prompt ("Think for maximum 512
# tokens.") and in the column extra_info.target_tokens; written by
#   verl-efficiency pack problems.parquet train.parquet --problems 1 --lcpo max --tokens 100:4000 --seed 0
# `verl-efficiency methods lcpo_max` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train reward.custom_reward_function.name=lcpo_max "$@"
