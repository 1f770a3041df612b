#!/usr/bin/env bash
# One evaluation on one GPU, submitted from the top of the repository; settings are arguments:
#   sbatch slurm/eval.sh models "Base:small Trained:r1" num_problems 200
# Without a run_name it is called eval-JOBID. Its record: outputs/records/RUN.ipynb
#SBATCH --job-name=grpo-eval
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=02:00:00
#SBATCH --output=outputs/%x-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
exec tools/job.sh nbs/20_eval.ipynb eval "$@"
