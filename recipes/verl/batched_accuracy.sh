#!/usr/bin/env bash
# Batched Contextual Reinforcement: PROBLEMS problems share one prompt and one token limit. They are packed again in every epoch.
# TRAIN holds single problems with extra_info.split=train. Balanced packs also need extra_info.difficulty; without it, add
# +data.efficiency.grouping=random. VAL stays as it is. RESPONSE_TOKENS is the limit that the problems share. It is what shortens
# the answers: start with two thirds of what PROBLEMS answers cost today, and raise it if most responses are cut off. For another
# form of answer, add +data.efficiency.answer_template="<answer{index}>…</answer{index}>"; it changes the prompt and what the reward
# looks for.
# `verl-efficiency methods batched_accuracy` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train \
  data.custom_cls.path=pkg://verl_efficiency.verl.dataset \
  data.custom_cls.name=PackedDataset \
  data.dataloader_num_workers=0 \
  +data.efficiency.problems="${PROBLEMS:-3}" \
  reward.custom_reward_function.name=batched_accuracy \
  "$@"
