#!/usr/bin/env bash
# Every rollout with a correct sibling learns from the self-teacher (SDPO).
# `verl-efficiency methods self_distillation` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method self_distillation "$@"
