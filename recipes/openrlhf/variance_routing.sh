#!/usr/bin/env bash
# GRPO in groups whose rewards vary; in the others imitation of the shortest correct rollout.
# `verl-efficiency methods variance_routing` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method variance_routing "$@"
