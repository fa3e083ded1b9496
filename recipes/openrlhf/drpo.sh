#!/usr/bin/env bash
# Correct rollouts compare by length with each other only, and with the wrong ones by correctness only.
# Its loss takes the mean over the tokens of each rollout.
# `verl-efficiency methods drpo` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method drpo --actor.loss_agg_mode seq-mean-token-mean "$@"
