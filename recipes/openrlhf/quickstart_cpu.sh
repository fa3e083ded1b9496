#!/usr/bin/env bash
# From a clean clone to a table: a training run of stock OpenRLHF with the token budget, on the CPU, in a few minutes.
#
#   bash recipes/openrlhf/quickstart_cpu.sh
#
# Model and problems are those of recipes/quickstart.sh: a tiny model (200 thousand weights) adds digits in writing, correctly but
# with useless checks. Ray, DeepSpeed and vLLM (its CPU build) run as on GPUs. The code that makes them run without one is in cpu/,
# and only this script and the tests use it. Everything is in runs/openrlhf_quickstart; a second call reuses it.
#
#   RUNS=folder   where to put it          SEED=0   seed of data and sampling          FRESH=1   do everything again
#   DRY_RUN=1     print the flags of the training run, one per line, and start nothing
set -euo pipefail
cd "$(dirname "$0")/../.."
export RUNS=${RUNS:-$PWD/runs/openrlhf_quickstart} SEED=${SEED:-0} HF_HUB_OFFLINE=1 DS_ACCELERATOR=cpu
export MODEL=$RUNS/data/wide TRAIN=$RUNS/data/train.jsonl VAL=$RUNS/data/test.parquet
export NAME=token_budget STEPS=34 GPUS=0 BATCH=16 GROUP=8 MICRO=128 LR=5e-4 PROMPT_TOKENS=24 RESPONSE_TOKENS=190
training=(
  bash recipes/openrlhf/train.sh token_budget --train.seed "$((SEED + 42))" --actor.lr_warmup_ratio 0.1
  --efficiency.difficulty data --efficiency.b_min 11 --efficiency.b_max 41 --efficiency.budget_floor null
)
[[ -z ${DRY_RUN:-} ]] || exec "${training[@]}"
[[ ${FRESH:-0} == 1 ]] && rm -rf "$RUNS"
mkdir -p "$RUNS/data"
SECONDS=0

say() { printf '\n\033[1m[%3d s] %s\033[0m\n' "$SECONDS" "$*"; }

say "1/4 environment (4 GB)"
source recipes/openrlhf/_environment.sh
full_environment "${VENV:-$PWD/.venv-openrlhf-full}"

say "2/4 model and problems"
if [[ ! -f $TRAIN ]]; then
  python -m verl_efficiency.testbed.prepare --out "$RUNS/data" --seed "$SEED"
  python recipes/openrlhf/cpu/widen.py --out "$MODEL" 2> /dev/null
  verl-efficiency pack "$RUNS/data/train.parquet" "$TRAIN" --problems 1 --format openrlhf
fi

say "3/4 training: token_budget (11 tokens for the easiest, 41 for the hardest problems)"
log=$RUNS/$NAME.log
if [[ ! -f $RUNS/$NAME/model/model.safetensors ]]; then
  echo "$STEPS steps; the whole log: $log"
  ray_folder=$(mktemp -d)
  trainer=
  trap '[[ -n $trainer ]] && kill "$trainer" 2> /dev/null; rm -rf "$ray_folder"' EXIT
  RAY_TMPDIR=$ray_folder timeout -k 10 1800 "${training[@]}" > "$log" 2>&1 &
  trainer=$!
  # One line of the log per step, until the training ends.
  tail --pid="$trainer" -n +1 -f "$log" 2> /dev/null | grep --line-buffered -o '\[token_budget\] .*' | cat -n || true
  if ! wait "$trainer"; then
    echo "training failed; the end of $log:" >&2
    tail -n 30 "$log" >&2
    exit 1
  fi
  trainer=
else
  echo "trained before: $RUNS/$NAME/model"
fi

say "4/4 evaluation on held-out problems"
results=()
for label in warm_start token_budget; do
  model=$RUNS/$label/model
  [[ $label == warm_start ]] && model=$MODEL
  results+=("$RUNS/$label.json")
  if [[ ! -f $RUNS/$label.json || $model -nt $RUNS/$label.json ]]; then
    verl-efficiency evaluate "$model" "$VAL" --label "$label" --out "$RUNS/$label.json" \
      --max-new-tokens 220 --batch-size 240 --seed "$SEED" 2> /dev/null
  fi
done
verl-efficiency report "${results[@]}"
say "done; the logs and the model: $RUNS"
