#!/usr/bin/env bash
# A recipe on a Ray cluster that is running already (KubeRay, Anyscale, your own), by the Ray job API.
#
#   ADDRESS=http://head:8265 bash recipes/cluster/ray_job.sh token_budget_qwen3_14b_2nodes [KEY=VALUE …]
#
# Every node needs verl and vLLM in its image. The plugin travels with the job: runtime_env.yaml installs this checkout on every
# worker. The launch asks each node whether it has the plugin before it starts, and names one that lacks it.
# DATA is a folder that all nodes see (default: /mnt/data); fill it once with recipes.cluster.data. Checkpoints go to RUNS
# (default: DATA/runs), since the folder of a job is deleted with it.
set -euo pipefail
cd "$(dirname "$0")/../.."
name=${1:?a recipe: python -m recipes.cluster.launch lists them}
data=${DATA:-/mnt/data}
ray job submit --address "${ADDRESS:?the dashboard of the cluster, http://head:8265}" --no-wait \
  --working-dir . --runtime-env recipes/cluster/runtime_env.yaml \
  -- env RUNS="${RUNS:-$data/runs}" python -m recipes.cluster.launch "$name" --data "$data" "${@:2}"
