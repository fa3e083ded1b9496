# Sourced by quickstart.sh and tests/run.sh. `environment FOLDER EXTRAS` creates a virtual environment, installs this checkout and
# the extras into it, and activates it. It skips what is already installed for the same pyproject.toml.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

environment() {
  local folder=$1 extras=$2 extra
  local stamp
  stamp=$(cksum < "$root/pyproject.toml")
  [[ -d $folder ]] || "${PYTHON:-python3}" -m venv "$folder"
  for extra in ${extras//,/ }; do # one at a time: pip's resolver takes many minutes for all together
    if [[ $(cat "$folder/installed-$extra" 2> /dev/null) != "$stamp" ]]; then
      echo "installing verl-efficiency[$extra] into $folder (cpu: a few minutes, about 2 GB)"
      # The same call names torch. Otherwise a dependency may install a newer build, with several GB of CUDA.
      "$folder/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 -e "$root[$extra]"
      echo "$stamp" > "$folder/installed-$extra"
    fi
  done
  source "$folder/bin/activate"
}
