#!/usr/bin/env bash
# Learns from the shortest rollouts of a group: KEEP of GROUP.
# As GFPO publishes it: a quarter to a third of 16 to 24 rollouts; 4 of 16 is in its text. More rollouts cost more to sample.
# `verl-efficiency methods gfpo` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

: "${GROUP:=16}"
train algorithm.adv_estimator=gfpo \
  +algorithm.efficiency.keep="${KEEP:-$(((GROUP + 3) / 4))}" "$@"
