#!/usr/bin/env bash
# Run a recipe on several nodes under Slurm: start one Ray node per machine, then launch on the first.
#
#   sbatch --nodes=2 recipes/cluster/slurm.sh token_budget_qwen3_14b_2nodes [KEY=VALUE …]
#
# Submit it from the checkout. VENV names the virtual environment, on a file system that all nodes see, with
# `pip install -e ".[vllm]"` done in it; DATA the folder that recipes.cluster.data has filled (default: ./data).
# Adapt the lines below to your site: partition, account, and modules or a container in front of srun.
#SBATCH --job-name=verl-efficiency
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --output=slurm-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?run it by sbatch}"
name=${1:?a recipe: python -m recipes.cluster.launch lists them}
source "${VENV:-$PWD/.venv}/bin/activate"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export NODES=${#nodes[@]} GPUS=${SLURM_GPUS_ON_NODE:-8}
export RAY_ADDRESS=${nodes[0]}:${RAY_PORT:-6379}
# Workers of a running Ray inherit the environment of `ray start`, so export here what they need. Of the modules that verl imports
# (VERL_USE_EXTERNAL_MODULES) the launch tells them.

trap 'kill $(jobs -p) 2> /dev/null || true' EXIT # ends the steps that hold the Ray nodes
for node in "${nodes[@]}"; do
  start=(--address="$RAY_ADDRESS")
  [[ $node == "${nodes[0]}" ]] && start=(--head --port="${RAY_ADDRESS##*:}")
  srun --nodes=1 --ntasks=1 --overlap --nodelist="$node" \
    ray start --block --num-gpus="$GPUS" --node-name="$node" "${start[@]}" &
done
for ((waited = 0; ; waited += 5)); do
  ready=$(python -c 'import ray; ray.init(logging_level="ERROR"); print(sum(node["Alive"] for node in ray.nodes()))' 2> /dev/null) || ready=0
  ((ready >= NODES)) && break
  ((waited < 300)) || { echo "only $ready of $NODES Ray nodes after 5 minutes" >&2; exit 1; }
  sleep 5
done
python -m recipes.cluster.launch "$name" --data "${DATA:-data}" "${@:2}"
