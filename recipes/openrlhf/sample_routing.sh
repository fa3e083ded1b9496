#!/usr/bin/env bash
# SRPO: a wrong rollout with a correct sibling learns from the self-teacher, all others by GRPO.
# As published: learning rate 5e-6, 32 prompts, clip-high 0.28. Not as published: no token importance weights, because OpenRLHF
# would not apply them to the teacher's term.
# `verl-efficiency methods sample_routing` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

: "${LR:=5e-6}" "${BATCH:=32}"
train --efficiency.method sample_routing --actor.eps_clip_low_high 0.2 0.28 "$@"
