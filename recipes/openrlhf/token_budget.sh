#!/usr/bin/env bash
# A correct answer pays for the tokens it spends over a budget that grows with the difficulty of its problem.
# Nothing but the name is needed. To set more, add for example
#   --efficiency.penalty 0.5 --efficiency.b_min 500 --efficiency.b_max 6000
# `verl-efficiency methods token_budget` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method token_budget "$@"
