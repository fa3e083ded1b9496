#!/usr/bin/env bash
# Batched Contextual Reinforcement: PROBLEMS problems share one prompt and one token limit, packed again in every epoch.
# TRAIN holds single problems with extra_info.split=train and, for balanced packs, extra_info.difficulty (where you have no
# difficulty: +data.efficiency.grouping=random). VAL is left as it is. RESPONSE_TOKENS is the limit that the problems share; it
# is what shortens the answers, so take about two thirds of what PROBLEMS answers cost today. Answers in a form of yours:
# +data.efficiency.answer_template="<answer{index}>…</answer{index}>" changes the prompt and what the reward looks for.
# `verl-efficiency methods batched_accuracy` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train \
  data.custom_cls.path=pkg://verl_efficiency.verl.dataset \
  data.custom_cls.name=PackedDataset \
  data.dataloader_num_workers=0 \
  +data.efficiency.problems="${PROBLEMS:-3}" \
  reward.custom_reward_function.name=batched_accuracy \
  "$@"
