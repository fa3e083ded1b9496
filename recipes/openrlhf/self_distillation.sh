#!/usr/bin/env bash
# SDPO: every rollout with a correct sibling learns from the self-teacher.
# As published: learning rate 1e-5, 32 prompts. Not as published: no token importance weights, because OpenRLHF would not apply them
# to the teacher's term.
# `verl-efficiency methods self_distillation` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

: "${LR:=1e-5}" "${BATCH:=32}"
train --efficiency.method self_distillation "$@"
