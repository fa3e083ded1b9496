#!/usr/bin/env bash
# A bonus for short thinking and one for a short answer, for models that think in <think> tags. Our trainer counts the thinking.
# `verl-efficiency methods grlc` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train algorithm.adv_estimator=grlc \
  trainer.v1.trainer_mode=efficiency_sync "$@"
