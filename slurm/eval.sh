#!/usr/bin/env bash
# One evaluation on one GPU, submitted from the top of the repository; settings are arguments:
#   sbatch slurm/eval.sh run_name e1 models "Base:small Trained:r1" num_problems 200
# Without a run_name it is called eval-JOBID. Its record: outputs/records/RUN.ipynb
# Beforehand, where there is network:  make env ACCEL=cuda  and  tools/prefetch.sh Qwen/Qwen2.5-1.5B-Instruct
#
# A job that meets its time limit, or is preempted, goes back to the queue and asks what was not asked yet. The same command
# submitted again does likewise.
#
# Exit codes: 0  done; or requeued
#             2  refused before it began: a setting, a name in use, a folder; the log's last lines say which
#             3  the evaluation failed or its process died; the traceback is in the log
#             4  requeued once already, and again no answer within the time limit: ask for more --time
#             5  stopped, but Slurm would not requeue the job: submit the same command again
#           127  no environment: papermill is not there
#SBATCH --job-name=grpo-eval
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=02:00:00
#SBATCH --requeue
# 60 s before the time limit Slurm sends USR1 to this shell (B:) and to nothing else
#SBATCH --signal=B:USR1@60
# One log a job, however often it is requeued. (%A_%a is for arrays: here it would end in _4294967294)
#SBATCH --output=outputs/%x-%j.log
#SBATCH --open-mode=append
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
exec tools/job.sh nbs/20_eval.ipynb eval "$@"  # which takes this shell's place: the signal reaches its trap
