#!/usr/bin/env bash
# Batched Contextual Reinforcement: several problems share one prompt and one token limit. Pack TRAIN before:
#   verl-efficiency pack problems.jsonl train.jsonl --problems 3 --format openrlhf
# RESPONSE_TOKENS is the limit that the problems share; it is what shortens the answers, so take about two thirds of what they
# cost today. OpenRLHF packs once; verl's PackedDataset packs again in every epoch.
# `verl-efficiency methods batched_accuracy` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

REWARD=${REWARD:-batched_accuracy} train --efficiency.method null --algo.advantage.estimator group_norm "$@"
