# Sourced. `train_method FOLDER FRAMEWORK NAME ARGUMENTS…` runs FOLDER/NAME.sh if it exists, else `train` with the settings of the
# method. An unknown name stops with the closest valid one.

train_method() {
  local folder=$1 framework=$2 name=${3:-}
  local chosen
  chosen=$(python3 -m verl_efficiency.methods.launch "$framework" "$name") || exit 2
  if [[ -z $name ]]; then
    printf 'names:\n%s\n' "$chosen"
    exit 2
  fi
  shift 3
  if [[ -f $folder/$name.sh ]]; then
    exec bash "$folder/$name.sh" "$@"
  fi
  local -a words=($chosen)
  if [[ ${words[0]} == REWARD=* ]]; then # recipes for OpenRLHF read the reward from this variable, so you can replace it
    export REWARD=${REWARD:-${words[0]#REWARD=}}
    words=("${words[@]:1}")
  fi
  NAME=${NAME:-$name} train "${words[@]}" "$@"
}
