#!/usr/bin/env bash
# L1's LCPO-Exact: as many tokens as the prompt asks for. TRAIN and VAL state the target in the prompt ("Think for 512 tokens.")
# and in the column extra_info.target_tokens; written by
#   verl-efficiency pack problems.parquet train.parquet --problems 1 --lcpo exact --tokens 100:4000 --seed 0
# `verl-efficiency methods lcpo_exact` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train reward.custom_reward_function.name=lcpo_exact "$@"
