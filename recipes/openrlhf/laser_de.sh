#!/usr/bin/env bash
# LASER-D, where a wrong answer beyond its target gets the bonus too, for exploring.
# `verl-efficiency methods laser_de` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method laser_de "$@"
