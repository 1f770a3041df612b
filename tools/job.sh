#!/usr/bin/env bash
# What the scripts in slurm/ share: a name for the run, then its record.   tools/job.sh NOTEBOOK KIND [NAME VALUE ...]
set -euo pipefail
notebook=$1 kind=$2; shift 2
(( $# % 2 == 0 )) || { echo "Settings come as NAME VALUE pairs, and the last of these has no value: $*" >&2; exit 2; }
for ((i = 1; i < $#; i += 2)); do
  [[ ${!i} == run_name ]] && value=$((i + 1)) && run=${!value}
done
if [ -z "${run:-}" ]; then
  run=$kind-${SLURM_JOB_ID:-$(date +%Y%m%d-%H%M%S)}
  set -- run_name "$run" "$@"
fi
echo "Job ${SLURM_JOB_ID:-without Slurm} on $(uname -n): $notebook, run $run"
exec "$(dirname "${BASH_SOURCE[0]}")/record.sh" "$notebook" "$run" "$@"
