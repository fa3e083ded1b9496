#!/usr/bin/env bash
# A correct answer loses a share of its reward, by how its length compares with its correct siblings.
# `verl-efficiency methods arora` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method arora "$@"
