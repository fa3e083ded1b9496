#!/usr/bin/env bash
# Tokens, context and turns cost, in proportion to how often the problem is solved.
# `verl-efficiency methods pass_rate` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train algorithm.adv_estimator=pass_rate "$@"
