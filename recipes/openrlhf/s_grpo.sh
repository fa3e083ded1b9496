#!/usr/bin/env bash
# GRPO on a random part of the tokens. S-GRPO's loss takes the mean over the kept tokens of each rollout.
# `verl-efficiency methods s_grpo` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method s_grpo --actor.loss_agg_mode seq-mean-token-mean "$@"
