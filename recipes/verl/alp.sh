#!/usr/bin/env bash
# Every token costs, and costs more the more often the problem is solved.
# `verl-efficiency methods alp` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train algorithm.adv_estimator=alp "$@"
