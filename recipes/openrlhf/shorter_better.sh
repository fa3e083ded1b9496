#!/usr/bin/env bash
# Every answer is drawn towards the length of the shortest correct one of its group.
# `verl-efficiency methods shorter_better` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method shorter_better "$@"
