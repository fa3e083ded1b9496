#!/usr/bin/env bash
# Correctness, less a penalty for n-grams that a response repeats.
# `verl-efficiency methods repetition` lists the settings of the penalty; for others set REWARD to a copy of
# composition_reward.py. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

REWARD=${REWARD:-composition} train --efficiency.method null --algo.advantage.estimator group_norm "$@"
