#!/usr/bin/env bash
# A response that the token limit cut off is worth nothing.
# `verl-efficiency methods stop_properly` lists the settings; for others than the defaults set REWARD to a file of yours like
# composition_reward.py. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

REWARD=${REWARD:-stop_properly} train --efficiency.method null --algo.advantage.estimator group_norm "$@"
