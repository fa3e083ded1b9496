#!/usr/bin/env bash
# DLER: a truncated answer keeps a fraction of its reward; correct answers get a small extra advantage. The limit does the rest:
# set RESPONSE_TOKENS well below what the model uses today.
# As published: 16 rollouts, 4000 tokens, the batch-wise advantage of REINFORCE++, clip-high. Not as published: no KL term (DLER:
# 0.0005), and groups that are all right or all wrong stay in (--algo.dynamic_filtering_enable drops them).
# `verl-efficiency methods truncation` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

: "${GROUP:=16}" "${RESPONSE_TOKENS:=4000}"
train --efficiency.method truncation --efficiency.advantage batch --actor.eps_clip_low_high 0.2 0.28 "$@"
