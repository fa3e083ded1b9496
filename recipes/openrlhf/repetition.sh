#!/usr/bin/env bash
# Correctness minus a penalty for repeated n-grams. For other weights, set REWARD to a copy of composition_reward.py.
# `verl-efficiency methods repetition` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

REWARD=${REWARD:-composition} train --efficiency.method null --algo.advantage.estimator group_norm "$@"
