#!/usr/bin/env bash
# A bonus for the shorter half of a group and a malus for the longer half; wrong answers only get the malus.
# `verl-efficiency methods kimi` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method kimi "$@"
