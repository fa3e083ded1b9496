#!/usr/bin/env bash
# A reward made of others: a list of terms with weights; a term may be a function of your own, pkg://module:function.
# `verl-efficiency methods composition` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

terms='[{name: stop_properly, weight: 1.0}, {name: repetition, weight: 0.1}]'
train \
  reward.custom_reward_function.name=composition \
  +reward.custom_reward_function.reward_kwargs.terms="${TERMS:-$terms}" \
  "$@"
