#!/usr/bin/env bash
# One training run on one GPU, submitted from the top of the repository; settings are arguments:
#   sbatch slurm/train.sh run_name r1 iterations 1200 learning_rate 1e-6
# Without a run_name the run is called train-JOBID. Its record: outputs/records/RUN.ipynb
# Limits of the job are sbatch's own options: sbatch --time=07:00:00 --partition=a100 slurm/train.sh ...
# Make the environment beforehand, on a machine with network: make env ACCEL=cuda
#SBATCH --job-name=grpo-train
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --output=outputs/%x-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
exec tools/job.sh nbs/10_training.ipynb train "$@"
