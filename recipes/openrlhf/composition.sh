#!/usr/bin/env bash
# A reward made of others: a list of terms with weights; a term may be a function of your own, pkg://module:function. This one
# is accuracy with a little of repetition; for other terms set REWARD to a copy of composition_reward.py.
# `verl-efficiency methods composition` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

REWARD=${REWARD:-composition} train --efficiency.method null --algo.advantage.estimator group_norm "$@"
