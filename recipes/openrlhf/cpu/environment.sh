# Sourced where GPUS=0: the variables and flags of a run without a GPU (OpenRLHF 0.11.2 and vLLM's CPU build; see ../_environment.sh).

export PYTHONPATH=$recipes_openrlhf/cpu${PYTHONPATH:+:$PYTHONPATH} # sitecustomize.py, in every process
export DS_ACCELERATOR=cpu TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PYTHONUNBUFFERED=1
export RAY_USAGE_STATS_ENABLED=0 RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0 RAY_DEDUP_LOGS=0
# Without these variables vLLM takes half of the memory for its cache, binds its threads to cores that other processes use too, and
# needs a C++ compiler.
export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1} VLLM_CPU_OMP_THREADS_BIND=nobind TORCHDYNAMO_DISABLE=1
export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1

CPU_FLAGS=(
  --actor.num_gpus_per_node 1
  --vllm.num_engines 1
  --vllm.enforce_eager
  --vllm.sync_backend gloo
  --vllm.gpu_memory_utilization 0.1
  --ds.attn_implementation sdpa
)
