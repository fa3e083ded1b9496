# Sourced by quickstart.sh and tests/run.sh: `environment FOLDER EXTRAS` makes a virtual environment with this checkout and the
# given extras installed, and activates it. What is there already, for the same pyproject.toml, is not installed again.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

environment() {
  local folder=$1 extras=$2 extra
  local stamp
  stamp=$(cksum < "$root/pyproject.toml")
  [[ -d $folder ]] || "${PYTHON:-python3}" -m venv "$folder"
  for extra in ${extras//,/ }; do # one after the other: pip's resolver loses itself for many minutes in all at once
    if [[ $(cat "$folder/installed-$extra" 2> /dev/null) != "$stamp" ]]; then
      echo "installing verl-efficiency[$extra] into $folder (cpu: a few minutes, about 2 GB)"
      # torch is named in the same call: otherwise a dependency may bring a newer build, with several GB of CUDA.
      "$folder/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 -e "$root[$extra]"
      echo "$stamp" > "$folder/installed-$extra"
    fi
  done
  source "$folder/bin/activate"
}
