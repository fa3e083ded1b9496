#!/usr/bin/env bash
# The model, told to be concise, teaches itself on every rollout (CRISP). The reward is only logged.
# `verl-efficiency methods concise_teacher` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

BATCH=${BATCH:-32} GROUP=${GROUP:-1} train --efficiency.method concise_teacher "$@"
