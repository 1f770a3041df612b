#!/usr/bin/env bash
# One training run, submitted from the top of the repository; settings are arguments:
#   sbatch slurm/train.sh run_name r1 iterations 1200 learning_rate 1e-6                      on one GPU
#   slurm/train.sh nodes 2 gpus 4 --time=07:00:00 run_name r1 batch_size 8                    on 4 GPUs of each of 2 nodes: submits itself
#   sbatch --nodes=2 --gres=gpu:4 --cpus-per-task=32 --mem=256G --time=07:00:00 slurm/train.sh run_name r1 batch_size 8     the same
# A process that does not answer the others for GRPO_TIMEOUT seconds (600) ends the run, a minute later at most. A run takes all GPUs of its job, one process for each (`num_processes` sets another number for each node). Without a run_name the run is called train-JOBID. Its record: outputs/records/RUN.ipynb
# Limits of the job are sbatch's own options: sbatch --time=07:00:00 --partition=a100 slurm/train.sh ...
# Beforehand, where there is network:  make env ACCEL=cuda  and  tools/prefetch.sh Qwen/Qwen2.5-1.5B-Instruct
#
# A job that meets its time limit, or is preempted, saves, goes back to the queue and continues. The same command submitted
# again continues a run that was stopped and does nothing to one that is done. To stop a run by hand: touch outputs/RUN/STOP
#
# Exit codes: 0  done; or saved and requeued; or stopped by hand
#             2  refused before training began: a setting, a name in use, a folder; the log's last lines say which
#             3  training failed or its process died; `error` in outputs/RUN/manifest.json, the traceback in the log
#             4  asked to stop, but not stopped within GRPO_GRACE seconds (240); or requeued once already, and again not one
#                step within the time limit: ask for more --time
#             5  saved, but Slurm would not requeue the job: submit the same command again
#           127  no environment: papermill is not there
#SBATCH --job-name=grpo-train
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --requeue
# 300 s before the time limit Slurm sends USR1 to this shell (B:) and to nothing else
#SBATCH --signal=B:USR1@300
# One log a job, however often it is requeued. (%A_%a is for arrays: here it would end in _4294967294)
#SBATCH --output=outputs/%x-%j.log
#SBATCH --open-mode=append
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
while [[ ${1:-} == nodes || ${1:-} == gpus || ${1:-} == --* ]]; do  # what the job is to have, before the settings
  [[ $1 == --* ]] && { asks+=("$1"); shift; continue; }
  [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || { echo "$1 should be a whole number above 0, got '${2:-}'" >&2; exit 2; }
  [[ $1 == nodes ]] && asks+=("--nodes=$2") || asks+=("--gres=gpu:$2" "--cpus-per-task=$((8*$2))" "--mem=$((64*$2))G")
  shift 2
done
if [ -n "${asks:-}" ]; then
  [ -z "${SLURM_JOB_ID:-}" ] || { echo "nodes and gpus are for submitting; this is job $SLURM_JOB_ID already: sbatch ${asks[*]} slurm/train.sh ..." >&2; exit 2; }
  command -v sbatch >/dev/null || { echo "nodes and gpus are for a cluster, and sbatch is not here: set num_processes to use several GPUs of this machine" >&2; exit 2; }
  exec sbatch "${asks[@]}" slurm/train.sh "$@"
fi
exec tools/job.sh nbs/10_training.ipynb train "$@"  # which takes this shell's place: the signal reaches its trap
