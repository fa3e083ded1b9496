#!/usr/bin/env bash
# Credits only the tokens where rollouts diverge (T-SPMO).
# `verl-efficiency methods t_spmo` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method t_spmo "$@"
