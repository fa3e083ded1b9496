#!/usr/bin/env bash
# Submit a recipe to a running Ray cluster (KubeRay, Anyscale, your own) with the Ray job API.
#
#   ADDRESS=http://head:8265 bash recipes/cluster/ray_job.sh token_budget_qwen3_14b_2nodes [KEY=VALUE …]
#
# Every node needs verl and vLLM in its image. The plugin travels with the job: runtime_env.yaml installs this checkout on every
# worker. Before training starts, the launch asks every node for the plugin and names nodes that lack it.
# DATA is a folder that all nodes see (default: /mnt/data); fill it once with recipes.cluster.data. Checkpoints go to RUNS
# (default: DATA/runs), since the folder of a job is deleted with it.
set -euo pipefail
cd "$(dirname "$0")/../.."
name=${1:?a recipe: python -m recipes.cluster.launch lists them}
data=${DATA:-/mnt/data}
ray job submit --address "${ADDRESS:?the dashboard of the cluster, http://head:8265}" --no-wait \
  --working-dir . --runtime-env recipes/cluster/runtime_env.yaml \
  -- env RUNS="${RUNS:-$data/runs}" python -m recipes.cluster.launch "$name" --data "$data" "${@:2}"
