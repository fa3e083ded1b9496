# Sourced by quickstart.sh and tests/run.sh: `environment FOLDER EXTRAS` makes a virtual environment with this checkout and the
# given extras installed, and activates it. A second call with the same pyproject.toml and extras installs nothing.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

environment() {
  local folder=$1 extras=$2 python=${PYTHON:-python3}
  local stamp
  stamp="$extras $("$python" -V 2>&1) $(cksum < "$root/pyproject.toml")"
  if [[ ! -f $folder/installed || $(< "$folder/installed") != "$stamp" ]]; then
    echo "installing verl-efficiency[$extras] into $folder (a few minutes, about 2 GB)"
    "$python" -m venv --clear "$folder"
    local extra
    for extra in ${extras//,/ }; do # one after the other: pip's resolver loses itself for many minutes in all at once
      # torch is named in the same call: otherwise a dependency may bring a newer build, with several GB of CUDA.
      "$folder/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 -e "$root[$extra]"
    done
    echo "$stamp" > "$folder/installed"
  fi
  source "$folder/bin/activate"
}
