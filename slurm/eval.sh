#!/usr/bin/env bash
# One evaluation on one GPU, submitted from the top of the repository; settings are arguments:
#   sbatch slurm/eval.sh models "base:small trained:r1" num_problems 200
# Its record is outputs/records/eval-JOBID.ipynb.
#SBATCH --job-name=grpo-eval
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=02:00:00
#SBATCH --output=outputs/%x-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
job=${SLURM_JOB_ID:-$(date +%Y%m%d-%H%M%S)}
echo "Job $job on $(hostname): evaluation"
exec tools/record.sh nbs/20_eval.ipynb "eval-$job" "$@"
