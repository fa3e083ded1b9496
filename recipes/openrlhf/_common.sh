# Sourced by every recipe. `train` launches stock OpenRLHF with the flags that all recipes share, then those of the recipe, then
# what you add on the command line; the last one counts. A variable without a default is asked for.
#
#   MODEL            the model to train: a folder or a hub name
#   TRAIN            a .jsonl file from `verl-efficiency pack --format openrlhf`
#   NAME             name of the run; its folder is RUNS/NAME (RUNS: ./runs)
#   GPUS             GPUs of the node, half of them for vLLM; GPUS=0 trains on the CPU (tests and toy models)
#   BATCH, GROUP     prompts per step and rollouts per prompt
#   PROMPT_TOKENS, RESPONSE_TOKENS   limits of a prompt and of a response
#   LR, STEPS        learning rate; training steps (empty: one epoch; TRAIN must hold STEPS · BATCH prompts)
#   MICRO            rollouts of one forward or backward pass
#   REWARD           one of our rewards (accuracy), or your own file with an AgentExecutor, see
#                    verl_efficiency/openrlhf/reward.py; empty: you name the reward with the stock flags
#   DRY_RUN=1        print the flags, one per line, and start nothing

recipes_openrlhf=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$recipes_openrlhf/../_train_method.sh"

train() {
  : "${MODEL:?set MODEL to the model to train, a folder or a hub name}"
  : "${TRAIN:?set TRAIN to a .jsonl file from verl-efficiency pack --format openrlhf}"
  local gpus=${GPUS:-8} batch=${BATCH:-128} group=${GROUP:-8} name=${NAME:-$(basename "${BASH_SOURCE[1]}" .sh)}
  local prompt=${PROMPT_TOKENS:-2048} response=${RESPONSE_TOKENS:-8192}
  local folder=${RUNS:-$PWD/runs}/$name
  local -a flags=(
    --actor.model_name_or_path "$MODEL"
    --data.prompt_dataset "$TRAIN"
    --data.input_key input
    --data.label_key label
    --data.apply_chat_template
    --data.max_len "$((prompt + response))"
    --rollout.max_new_tokens "$response"
    --rollout.batch_size "$batch"
    --rollout.n_samples_per_prompt "$group"
    --rollout.micro_batch_size "${MICRO:-4}"
    --train.batch_size "$((batch * group))"
    --train.micro_batch_size "${MICRO:-4}"
    --actor.adam.lr "${LR:-1e-6}"
    --algo.kl.init_coef 0
    --ckpt.output_dir "$folder/model"
    --ckpt.path "$folder/checkpoints"
    --logger.tensorboard_dir "$folder/tensorboard"
    --vllm.tensor_parallel_size 1
  )
  case ${REWARD-accuracy} in
    "") ;;
    *.py) flags+=(--train.agent_func_path "$REWARD") ;;
    *) flags+=(--efficiency.reward "${REWARD-accuracy}") ;;
  esac
  if [[ -n ${STEPS:-} ]]; then
    flags+=(--data.max_samples "$((STEPS * batch))")
  fi
  if ((gpus % 2)); then
    echo "GPUS: must be even, because half of them are for vLLM; got $gpus" >&2
    return 2
  fi
  local -a launcher=(-m verl_efficiency.openrlhf.train)
  if [[ $gpus == 0 ]]; then
    source "$recipes_openrlhf/cpu/environment.sh"
    launcher=("$recipes_openrlhf/cpu/launch.py")
    flags+=("${CPU_FLAGS[@]}")
  else
    flags+=(
      --actor.num_gpus_per_node "$((gpus / 2))"
      --vllm.num_engines "$((gpus / 2))"
      --vllm.gpu_memory_utilization 0.85
      --actor.gradient_checkpointing_enable
    )
  fi
  if [[ -n ${DRY_RUN:-} ]]; then
    printf '%s\n' "${flags[@]}" "$@"
    return
  fi
  mkdir -p "$folder"
  python3 "${launcher[@]}" "${flags[@]}" "$@"
}
