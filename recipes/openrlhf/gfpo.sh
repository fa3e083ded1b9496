#!/usr/bin/env bash
# Learns from the shortest half of a group: sample more than usual (GROUP).
# `verl-efficiency methods gfpo` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method gfpo "$@"
