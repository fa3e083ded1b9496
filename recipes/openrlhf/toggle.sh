#!/usr/bin/env bash
# Phases of STEPS_PER_PHASE steps in which a correct answer counts only within its problem's budget, then as many without.
# `verl-efficiency methods toggle` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method toggle --efficiency.phase_steps "${STEPS_PER_PHASE:-10}" "$@"
