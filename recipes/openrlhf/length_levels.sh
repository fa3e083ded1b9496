#!/usr/bin/env bash
# Short, medium and long reasoning on demand. TRAIN asks for a level in the prompt, and names it (short, medium or long) in the
# column extra_info.length_level.
# `verl-efficiency methods length_levels` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

REWARD=${REWARD:-length_levels} train --efficiency.method null --algo.advantage.estimator group_norm "$@"
