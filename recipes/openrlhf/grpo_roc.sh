#!/usr/bin/env bash
# Learns from the shortest correct rollouts of a group and from any of the wrong ones, half of it in all: sample more than
# usual (GROUP).
# `verl-efficiency methods grpo_roc` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method grpo_roc "$@"
