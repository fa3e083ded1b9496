#!/usr/bin/env bash
# Does this package do on your GPU what its tests show on a CPU? One command, one table, no network. Made to take under
# 8 minutes with a GPU. On an H100 the training part was ended by a time limit, so its checks have run on a CPU only.
#
#   bash benchmarks/gpu/check.sh                 a machine with a GPU and PyTorch
#   DEVICE=cpu bash benchmarks/gpu/check.sh      the same parts on the CPU, at smaller sizes
#
#   PARTS="estimators distillation"   only these; all: plugin estimators distillation training smollm2
#   QUICK=1    small sizes, two training steps          FRESH=1   measure again what is there
#   OUT        folder of the results (default: benchmarks/results); a part that is there is not run again
#   WHEELS     folder that wheels.sh has filled on a machine with a network (default: benchmarks/gpu/wheels). Where it is there, its
#              packages go into VENV (default: .venv-gpu), beside the machine's own PyTorch. Else verl must be installed already.
#   SMOLLM2    the wheel or folder of the language model, for recipes/smollm2.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
SECONDS=0
DEVICE=${DEVICE:-cuda} OUT=${OUT:-benchmarks/results} WHEELS=${WHEELS:-$PWD/benchmarks/gpu/wheels}
read -ra parts <<< "${PARTS:-plugin estimators distillation training smollm2}"
options=(--device "$DEVICE" --out "$OUT")
[[ ${QUICK:-0} == 1 ]] && options+=(--quick)
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
python -c "import torch, verl, verl_efficiency; assert '$DEVICE' == 'cpu' or torch.cuda.is_available(), 'PyTorch sees no GPU; DEVICE=cpu checks the rest'"

failed=()
for part in "${parts[@]}"; do
  echo "[$SECONDS s] $part"
  case $part in
    plugin | estimators | distillation | training)
      again=()
      [[ ${FRESH:-0} == 1 ]] && again=(--fresh)
      python -W ignore -m "benchmarks.gpu.$part" "${options[@]}" "${again[@]}" || failed+=("$part")
      ;;
    smollm2)
      if [[ ! -f recipes/smollm2.sh || -z ${SMOLLM2:-} ]]; then
        echo "not run: it takes recipes/smollm2.sh, and SMOLLM2, the file of the model"
      else
        gpus=1
        [[ $DEVICE == cpu ]] && gpus=0
        GPUS=$gpus ROLLOUT=hf JOBS=${JOBS:-$((gpus ? 4 : 1))} SMOKE=${QUICK:-0} bash recipes/smollm2.sh || failed+=("$part")
      fi
      ;;
    *) echo "PARTS: unknown part '$part'; plugin, estimators, distillation, training or smollm2" >&2 && exit 2 ;;
  esac
done

echo
python -m benchmarks.gpu.table "${options[@]}" || failed+=("a figure")
echo "$SECONDS s"
if ((${#failed[@]})); then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
