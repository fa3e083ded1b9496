#!/usr/bin/env bash
# A reward between two values over the length, falling for correct answers and rising for wrong ones.
# `verl-efficiency methods cosine` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method cosine "$@"
