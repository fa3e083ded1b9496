#!/usr/bin/env bash
# Every rollout with a correct sibling learns from the self-teacher (SDPO).
# As SDPO publishes it: learning rate 1e-5, 32 prompts. Departs from it: no token importance weights, which are not applied to the
# teacher's term here.
# `verl-efficiency methods self_distillation` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

: "${LR:=1e-5}" "${BATCH:=32}"
train --efficiency.method self_distillation "$@"
