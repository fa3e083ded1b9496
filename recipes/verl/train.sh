#!/usr/bin/env bash
# Train with stock verl and any of our methods, by name:
#
#   bash recipes/verl/train.sh kimi
#   bash recipes/verl/train.sh laser +algorithm.efficiency.target_length=2000 trainer.total_epochs=2
#   bash recipes/verl/train.sh lcpo_max +reward.custom_reward_function.reward_kwargs.marker="'####'"
#   bash recipes/verl/train.sh                # prints the names
#
# After the name come settings of verl and of the method; the last one of a key counts. `verl-efficiency methods NAME` shows the
# settings of a method. _common.sh explains the variables (MODEL, TRAIN, VAL, GPUS, …). A method that needs more than its name
# has its own script in this folder, which this script runs.
set -euo pipefail
source "$(dirname "$0")/_common.sh"
train_method "$(dirname "$0")" verl "$@"
