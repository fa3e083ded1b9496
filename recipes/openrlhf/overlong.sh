#!/usr/bin/env bash
# An answer in the last part before the token limit (a fifth of RESPONSE_TOKENS, or BUFFER tokens) loses score.
# `verl-efficiency methods overlong` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method overlong --efficiency.buffer "${BUFFER:-null}" "$@"
