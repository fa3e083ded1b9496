#!/usr/bin/env bash
# A bonus for short thinking and one for a short answer, each relative to the group. For models that think in <think> tags.
# `verl-efficiency methods grlc` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method grlc "$@"
