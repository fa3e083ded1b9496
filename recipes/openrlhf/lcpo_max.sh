#!/usr/bin/env bash
# L1's LCPO-Max: no more tokens than the prompt allows. TRAIN states the limit in the prompt ("Think for maximum 512 tokens.")
# and in the column extra_info.target_tokens.
# `verl-efficiency methods lcpo_max` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

REWARD=${REWARD:-lcpo_max} train --efficiency.method null --algo.advantage.estimator group_norm "$@"
