#!/usr/bin/env bash
# A weighted sum of rewards. TERMS lists them; a term may be your own function, pkg://module:function.
# `verl-efficiency methods composition` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

terms='[{name: stop_properly, weight: 1.0}, {name: repetition, weight: 0.1}]'
components=()
if [[ -n ${GDPO_KEYS:-} ]]; then # normalise each term in its group (GDPO): GDPO_KEYS=term_accuracy,term_repetition GDPO_WEIGHTS=1.0,0.1
  components=(
    algorithm.adv_estimator=gdpo
    trainer.use_v1=False
    +algorithm.gdpo_reward_keys="[$GDPO_KEYS]"
    +algorithm.gdpo_reward_weights="[${GDPO_WEIGHTS:?set GDPO_WEIGHTS to as many numbers as GDPO_KEYS has names}]"
  )
fi
train \
  reward.custom_reward_function.name=composition \
  +reward.custom_reward_function.reward_kwargs.terms="${TERMS:-$terms}" \
  "${components[@]}" \
  "$@"
