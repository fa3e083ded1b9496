#!/usr/bin/env bash
# LASER with a target length per band of difficulty, chosen again and again from the rollouts. The targets go with the checkpoints.
# `verl-efficiency methods laser_d` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method laser_d "$@"
