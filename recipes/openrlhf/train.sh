#!/usr/bin/env bash
# Train with stock OpenRLHF and any of our methods, by name:
#
#   bash recipes/openrlhf/train.sh kimi
#   bash recipes/openrlhf/train.sh laser --efficiency.target_length 2000
#   REWARD=my_reward.py bash recipes/openrlhf/train.sh composition    # like composition_reward.py in this folder
#   bash recipes/openrlhf/train.sh            # prints the names
#
# After the name come flags of OpenRLHF and of the method. `verl-efficiency methods NAME` shows the settings of a method.
# _common.sh explains the variables (MODEL, TRAIN, GPUS, …). A method that needs more than its name has its own script in
# this folder, which this script runs.
set -euo pipefail
source "$(dirname "$0")/_common.sh"
train_method "$(dirname "$0")" openrlhf "$@"
