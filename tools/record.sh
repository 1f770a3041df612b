#!/usr/bin/env bash
# Execute an experiment notebook into its record, outputs/records/NAME.ipynb (or $GRPO_OUTPUTS/records/NAME.ipynb):
#   tools/record.sh nbs/10_training.ipynb r1 run_name r1 iterations 50        settings as NAME VALUE pairs
#   tools/record.sh nbs/10_training.ipynb r1 -p run_name r1 -y 'seed: 3'      or as papermill's own options
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
notebook=$1 name=$2; shift 2
if [[ $# -gt 0 && $1 != -* ]]; then
  (( $# % 2 == 0 )) || { echo "Settings come as NAME VALUE pairs, and the last of these has no value: $*" >&2; exit 2; }
  pairs=(); while (( $# )); do pairs+=(-p "$1" "$2"); shift 2; done
  set -- "${pairs[@]}"
fi

# OpenMP threads that spin while they wait slow a busy machine down five- to tenfold; read when torch is first imported
export OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0
unset PYTHONDONTWRITEBYTECODE  # else every process compiles its libraries anew

papermill=${PAPERMILL:-.venv/bin/papermill}
command -v "$papermill" >/dev/null || papermill=papermill
command -v "$papermill" >/dev/null || { echo "papermill is not installed: run \`make env\` first (\`make env ACCEL=cuda\` where the GPU is on another machine)." >&2; exit 127; }

records=${GRPO_OUTPUTS:-outputs}
[[ $records == */records ]] || records=$records/records  # the committed records are a folder of outputs themselves
mkdir -p "$records"
record=$records/$name.ipynb fresh=$records/$name.ipynb
[ -e "$record" ] && fresh=$records/$name.new.ipynb  # a run that is refused or fails must not replace a record
"$papermill" "$notebook" "$fresh" --log-output "$@"
[ "$fresh" = "$record" ] || mv "$fresh" "$record"
echo "Record: $record"
