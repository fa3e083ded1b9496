#!/usr/bin/env bash
# A correct answer within TARGET tokens gets a bonus.
# `verl-efficiency methods laser` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method laser --efficiency.target_length "${TARGET:-4096}" "$@"
