#!/usr/bin/env bash
# A cut-off answer keeps a fraction of its reward; correct ones get a little advantage on top. The limit does the rest:
# set RESPONSE_TOKENS well below what the model uses today (DLER: 4000 for a model that takes 10000).
# `verl-efficiency methods truncation` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method truncation --actor.eps_clip_low_high 0.2 0.28 "$@"
