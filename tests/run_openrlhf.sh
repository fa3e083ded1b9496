#!/usr/bin/env bash
# The whole loop of OpenRLHF with our classes, on the CPU: Ray's actors, vLLM, DeepSpeed, weights sent to vLLM after every step.
# In its own environment (4 GB, made at the first call in a few minutes); the runs take about a quarter of an hour.
#
#   bash tests/run_openrlhf.sh          everything
#   bash tests/run_openrlhf.sh async    one of: sync async learns resumes distils ranks raises
set -euo pipefail
cd "$(dirname "$0")/.."
source recipes/openrlhf/_environment.sh
full_environment "${OPENRLHF_FULL_VENV:-$PWD/.venv-openrlhf-full}"

work=$(mktemp -d)
runs=${RUNS:-$PWD/runs/openrlhf}
rm -rf "$runs" && mkdir -p "$runs"
export RAY_TMPDIR=$work/ray HF_HUB_OFFLINE=1
mkdir "$RAY_TMPDIR"
unset RAY_ADDRESS
trainer=
trap '[[ -n $trainer ]] && kill "$trainer" 2> /dev/null; rm -rf "$work"' EXIT

python -m verl_efficiency.testbed.prepare --out "$work" --seed 0 > /dev/null
verl-efficiency pack "$work/train.parquet" "$work/train.jsonl" --problems 1 --format openrlhf
python recipes/openrlhf/cpu/widen.py --out "$work/model" > /dev/null 2>&1
export GPUS=0 MODEL=$work/model TRAIN=$work/train.jsonl RUNS=$runs BATCH=8 GROUP=8 MICRO=64 LR=5e-4
export PROMPT_TOKENS=24 RESPONSE_TOKENS=190

# run NAME STEPS RECIPE FLAGS…: train; the log is RUNS/NAME.log.
run() {
  export NAME=$1 STEPS=$2
  local recipe=$3
  shift 3
  echo "training: $NAME"
  # Importance correction has vLLM report its log-probabilities, with which ours are compared.
  timeout -k 10 "${LIMIT:-400}" bash recipes/openrlhf/train.sh "$recipe" --actor.lr_scheduler constant --actor.lr_warmup_ratio 0 \
    --algo.advantage.is_correction_level token --algo.advantage.is_correction_mode clip "$@" > "$runs/$NAME.log" 2>&1 &
  trainer=$!
  local status=0
  wait "$trainer" || status=$?
  trainer=
  return "$status"
}

# trained NAME STEPS …: the run ended well and its actors' records say what they must.
trained() {
  run "$@" || { tail -n 40 "$runs/$1.log"; exit 1; }
  python tests/openrlhf/evidence.py "$runs/$1.log" "$runs/$1/tensorboard" --steps "$2" "${evidence[@]}"
}

only=${1:-all}
part() { [[ $only == all || $only == "$1" ]]; }

if part sync; then
  evidence=(--trainer EfficiencyPPOTrainer)
  trained sync 10 token_budget
fi
if part async; then
  evidence=(--trainer EfficiencyTrainingActor)
  # Rollouts are a step older than the actor that is compared with them: with a large learning rate the gap is what it learned.
  LR=1e-4 trained async 10 s_grpo --train.async_enable
fi
if part learns; then
  evidence=(--trainer EfficiencyPPOTrainer --shorter 0.8)
  # The learning rate falls as in the quickstart: at a constant one the model is at its budget after 20 steps and then drifts.
  BATCH=16 trained learns 30 token_budget --actor.lr_scheduler cosine_with_min_lr --actor.lr_warmup_ratio 0.1 \
    --efficiency.difficulty data --efficiency.b_min 11 --efficiency.b_max 41
fi
if part resumes; then # with dynamic filtering (which drops nothing here), and evaluations in between
  tail -n 40 "$TRAIN" > "$work/eval.jsonl"
  for mode in sync async; do
    evidence=(--trainer EfficiencyPPOTrainer)
    flags=(--efficiency.budget_decay 0.999999 --algo.dynamic_filtering_enable --algo.dynamic_filtering_range -0.1 1.01)
    if [[ $mode == async ]]; then
      evidence=(--trainer EfficiencyTrainingActor)
      flags+=(--train.async_enable --actor.adam.lr 1e-4)
    fi
    name=resumes_$mode
    trained "$name" 4 token_budget "${flags[@]}" --ckpt.save_steps 2 --eval.dataset "$work/eval.jsonl" --eval.steps 2
    mv "$runs/$name.log" "$runs/${name}_first.log"
    mv "$runs/$name/tensorboard" "$runs/${name}_first_tensorboard" # its runs are named by the minute
    rm -r "$runs/$name/checkpoints/_actor/global_step4"
    echo global_step2 > "$runs/$name/checkpoints/_actor/latest"
    evidence+=(--goes-on-from "$runs/${name}_first.log")
    trained "$name" 4 token_budget "${flags[@]}" --ckpt.load_enable
  done
fi
if part distils; then
  evidence=(--trainer EfficiencyPPOTrainer --distils)
  BATCH=16 trained distils 4 sample_routing --efficiency.distillation_topk 20
  evidence=(--trainer EfficiencyTrainingActor)
  LR=1e-4 BATCH=16 trained distils_sampled 4 sample_routing --train.async_enable --efficiency.alpha 1 \
    --efficiency.full_logit_distillation false
fi
if part ranks; then # two of the actor: each is given a part of every pass
  evidence=(--trainer EfficiencyPPOTrainer --distils)
  BATCH=16 CPU_ACTORS=3 trained ranks 4 sample_routing --actor.num_gpus_per_node 2 --efficiency.distillation_topk 20
fi
if part raises; then
  for failing in "{1}" "{3}" "range(1000)"; do
    for flags in --reward.remote_url --train.agent_func_path "--train.async_enable --train.agent_func_path"; do
      sed "s/FAILING/$failing/" tests/openrlhf/raising_reward.py > "$work/raising.py"
      status=0
      # shellcheck disable=SC2086 # several flags
      REWARD='' run raises 2 token_budget $flags "$work/raising.py" || status=$?
      if ((status == 0 || status == 124)); then
        echo "a reward that raises did not end the run ($failing, $flags; exit code $status, 124: it hangs)" >&2
        exit 1
      fi
      grep -o "the reward brittle raised ValueError: no such unit (in brittle, .*). Prompt: .*Label: .*" "$runs/raises.log" | tail -n 1 || {
        tail -n 40 "$runs/raises.log"
        echo "the error does not name function, cause and prompt ($failing, $flags)" >&2
        exit 1
      }
    done
  done
fi
echo "everything holds; logs: $runs"
