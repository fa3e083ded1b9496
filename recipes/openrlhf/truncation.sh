#!/usr/bin/env bash
# A cut-off answer keeps a fraction of its reward; correct ones get a little advantage on top. The limit does the rest: set
# RESPONSE_TOKENS well below what the model uses today.
# As DLER publishes it: 16 rollouts, 4000 tokens, the batch-wise advantage of REINFORCE++ and clip-high. Departs from it: no KL
# term (DLER: 0.0005), and groups that are all right or all wrong are kept (--algo.dynamic_filtering_enable drops them).
# `verl-efficiency methods truncation` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

: "${GROUP:=16}" "${RESPONSE_TOKENS:=4000}"
train --efficiency.method truncation --efficiency.advantage batch --actor.eps_clip_low_high 0.2 0.28 "$@"
