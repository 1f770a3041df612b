#!/usr/bin/env bash
# Many training runs from a file, one job of an array for each row; more settings, for all rows, are further arguments:
#   slurm/sweep.sh slurm/sweeps/formats.csv                                         without Slurm: check every row, print the next line
#   sbatch --array=1-3 slurm/sweep.sh slurm/sweeps/formats.csv iterations 400       (--array=1-3%2: two at a time)
# The file is CSV: its first line names settings, run_name among them; each further line is a run, an empty cell the default.
# Job 1 of the array takes the first run. Each is trained as by slurm/train.sh (stopped, requeued, continued), so the same
# command submitted again continues what was stopped, does nothing to what is done, and trains rows that were added.
#
# Exit codes: 2  the file, or this row of it, cannot be used: the log says why;   all others as for slurm/train.sh
#SBATCH --job-name=grpo-sweep
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --requeue
# 300 s before the time limit Slurm sends USR1 to this shell (B:) and to nothing else
#SBATCH --signal=B:USR1@300
# One log for each job of the array, however often it is requeued
#SBATCH --output=outputs/%x-%A_%a.log
#SBATCH --open-mode=append
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
python=.venv/bin/python; [ -x "$python" ] || python=python3
row=$("$python" tools/sweep_row.py "${1:-}" ${SLURM_ARRAY_TASK_ID:+"$SLURM_ARRAY_TASK_ID"}) || exit 2
[ -n "${SLURM_ARRAY_TASK_ID:-}" ] || { echo "$row"; exit 0; }
mapfile -t settings <<< "$row"
exec tools/job.sh nbs/10_training.ipynb train "${settings[@]}" "${@:2}"  # which takes this shell's place
