#!/usr/bin/env bash
# L1's LCPO-Exact: as many tokens as the prompt asks for. TRAIN states the target in the prompt ("Think for 512 tokens.") and in
# the column extra_info.target_tokens.
# `verl-efficiency methods lcpo_exact` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

REWARD=${REWARD:-lcpo_exact} train --efficiency.method null --algo.advantage.estimator group_norm "$@"
