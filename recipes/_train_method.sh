# Sourced: `train_method FOLDER FRAMEWORK NAME ARGUMENTS…` runs FOLDER/NAME.sh where there is one, else `train` with what the name
# stands for. A name that does not exist stops with the closest one.

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
  if [[ ${words[0]} == REWARD=* ]]; then # OpenRLHF names a reward by the variable, so that yours may take its place
    export REWARD=${REWARD:-${words[0]#REWARD=}}
    words=("${words[@]:1}")
  fi
  NAME=${NAME:-$name} train "${words[@]}" "$@"
}
