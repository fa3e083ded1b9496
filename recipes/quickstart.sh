#!/usr/bin/env bash
# From a clean clone to a table: two training runs of the stock verl trainer, on the CPU, in a few minutes.
#
#   bash recipes/quickstart.sh
#
# A tiny model (200 thousand weights) adds digits in writing. Its answers are correct but contain useless checks, so the shortest
# correct answer is known. Two runs start from the same warm start: one with Batched Contextual Reinforcement, one with the token
# budget. Both are evaluated on held-out problems. Everything is in runs/quickstart; a second call reuses it.
#
#   RUNS=folder   where to put it          SEED=0   seed of data and sampling          FRESH=1   do everything again
#   TASK=notes    the testbed's second task (default: checks): notes cost tokens, and without them hard sums go wrong
#   DRY_RUN=1     print the settings of each run, one per line, and start nothing
set -euo pipefail
cd "$(dirname "$0")/.."
TASK=${TASK:-checks}
# Per task: tokens and steps of batched_accuracy, steps and budgets of token_budget, the limit of one answer, and what two
# problems of a pack must not share.
case $TASK in
  checks) packed=(130 34) budgeted=(34 11 41) answer=190 distinct=segment default=$PWD/runs/quickstart ;;
  notes) packed=(115 50) budgeted=(50 16 51) answer=66 distinct=level default=$PWD/runs/quickstart_notes ;;
  *) echo "TASK: must be checks or notes, got $TASK" >&2 && exit 2 ;;
esac
export RUNS=${RUNS:-$default} SEED=${SEED:-0} HF_HUB_OFFLINE=1
SECONDS=0

say() { printf '\n\033[1m[%3d s] %s\033[0m\n' "$SECONDS" "$*"; }

if [[ -z ${DRY_RUN:-} ]]; then
  [[ ${FRESH:-0} == 1 ]] && rm -rf "$RUNS"
  mkdir -p "$RUNS"

  say "1/5 environment"
  source recipes/_environment.sh
  environment "${VENV:-$PWD/.venv}" cpu,evaluation

  say "2/5 model and problems"
  [[ -f $RUNS/data/test.parquet ]] ||
    python -m verl_efficiency.testbed.prepare --task "$TASK" --out "$RUNS/data" --seed "$SEED"
fi

# 16 prompts × 8 rollouts a step; one pass of the model over a step's 128 rollouts.
export GPUS=0 MODEL=$RUNS/data/model TRAIN=$RUNS/data/train.parquet VAL=$RUNS/data/test.parquet
export BATCH=16 GROUP=8 LR=5e-4 PROMPT_TOKENS=80 PROBLEMS=3
toy=(
  data.seed="$SEED"
  actor_rollout_ref.rollout.seed="$SEED"
  actor_rollout_ref.actor.use_dynamic_bsz=False
  actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=128
  actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=128
  actor_rollout_ref.actor.optim.lr_warmup_steps=3
  actor_rollout_ref.actor.checkpoint.save_contents=[hf_model]
  trainer.val_before_train=False
  trainer.test_freq=-1
  trainer.resume_mode=disable
  'hydra.run.dir=${trainer.default_local_dir}/hydra'
)

# run NAME RECIPE STEPS RESPONSE_TOKENS SETTINGS…: train once; show the steps, keep the whole log.
run() {
  export NAME=$1 STEPS=$3 RESPONSE_TOKENS=$4
  local recipe=$2 log=$RUNS/$1.log
  shift 4
  if [[ -n ${DRY_RUN:-} ]]; then
    bash recipes/verl/train.sh "$recipe" "${toy[@]}" trainer.save_freq="$STEPS" "$@"
    return
  fi
  if [[ -d $RUNS/$NAME/global_step_$STEPS ]]; then
    echo "trained before: $RUNS/$NAME/global_step_$STEPS"
    return
  fi
  echo "python -m verl.trainer.main_ppo …, $STEPS steps; the whole log: $log"
  rm -rf "${RUNS:?}/$NAME"
  bash recipes/verl/train.sh "$recipe" "${toy[@]}" trainer.save_freq="$STEPS" "$@" > "$log" 2>&1 &
  local trainer=$!
  trap 'kill $trainer 2> /dev/null || true' INT TERM EXIT
  verl-efficiency watch "$RUNS/$NAME/metrics.jsonl" --steps "$STEPS" --pid "$trainer"
  if ! wait "$trainer"; then
    echo "training failed; the end of $log:" >&2
    tail -n 30 "$log" >&2
    exit 1
  fi
  trap - INT TERM EXIT
}

say "3/5 training: batched_accuracy (3 problems share ${packed[0]} tokens)"
run batched_accuracy batched_accuracy "${packed[1]}" "${packed[0]}" \
  "+data.efficiency.instruction=''" \
  "+data.efficiency.problem_template='### Problem {index}:{problem}'" \
  $'+data.efficiency.separator="\n"' \
  +data.efficiency.distinct_by="extra_info.$distinct"

say "4/5 training: token_budget (${budgeted[1]} tokens for the easiest, ${budgeted[2]} for the hardest problems)"
# No floor: on this task it is known that such budgets can be met.
run token_budget token_budget "${budgeted[0]}" "$answer" \
  +algorithm.efficiency.budget_floor=null \
  +algorithm.efficiency.difficulty=data \
  +algorithm.efficiency.b_min="${budgeted[1]}" \
  +algorithm.efficiency.b_max="${budgeted[2]}"

[[ -z ${DRY_RUN:-} ]] || exit 0

say "5/5 evaluation on held-out single problems"
results=()
for label in warm_start batched_accuracy token_budget; do
  model=$RUNS/$label
  [[ $label == warm_start ]] && model=$MODEL
  results+=("$RUNS/$label.json")
  if [[ ! -f $RUNS/$label.json || $model -nt $RUNS/$label.json ]]; then
    verl-efficiency evaluate "$model" "$VAL" --label "$label" --out "$RUNS/$label.json" \
      --max-new-tokens $((answer + 30)) --batch-size 240 --seed "$SEED"
  fi
done
verl-efficiency report "${results[@]}" --out "$RUNS/report.png" \
  --log "batched_accuracy=$RUNS/batched_accuracy/metrics.jsonl:3" --log "token_budget=$RUNS/token_budget/metrics.jsonl"
say "done; the picture: $RUNS/report.png"
