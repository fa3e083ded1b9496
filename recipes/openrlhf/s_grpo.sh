#!/usr/bin/env bash
# GRPO that learns from a random part of the tokens of each rollout, by their mean over each rollout.
# `verl-efficiency methods s_grpo` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method s_grpo --actor.loss_agg_mode seq-mean-token-mean "$@"
