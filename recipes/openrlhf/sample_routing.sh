#!/usr/bin/env bash
# A wrong rollout with a correct sibling learns from the self-teacher, everything else by GRPO (SRPO).
# As SRPO publishes it: learning rate 5e-6, 32 prompts, clip-high 0.28. Departs from it: no token importance weights, which are not
# applied to the teacher's term here.
# `verl-efficiency methods sample_routing` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

: "${LR:=5e-6}" "${BATCH:=32}"
train --efficiency.method sample_routing --actor.eps_clip_low_high 0.2 0.28 "$@"
