#!/usr/bin/env bash
# The reward compares the length with a budget between the group's mean correct length and the limit.
# `verl-efficiency methods dast` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method dast "$@"
