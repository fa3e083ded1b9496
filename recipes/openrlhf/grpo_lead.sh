#!/usr/bin/env bash
# Shorter correct answers score higher, wrong ones -1, and hard problems count more.
# `verl-efficiency methods grpo_lead` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method grpo_lead "$@"
