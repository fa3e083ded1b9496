#!/usr/bin/env bash
# Every token costs, at a price that rises while accuracy is above ACCURACY: give that of your model before training.
# `verl-efficiency methods a_dlp` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method a_dlp --efficiency.reference_accuracy "${ACCURACY:-0.62}" "$@"
