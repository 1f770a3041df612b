#!/usr/bin/env bash
# Fetch models on a machine with network, for jobs on machines without:   tools/prefetch.sh Qwen/Qwen2.5-1.5B-Instruct ...
# They go to $HF_HOME, else to outputs/huggingface, where the scripts in slurm/ look. The small model is in the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
(( $# )) || { echo "Which model? For example: tools/prefetch.sh Qwen/Qwen2.5-1.5B-Instruct" >&2; exit 2; }
export HF_HOME=${HF_HOME:-${GRPO_OUTPUTS:-$PWD/outputs}/huggingface}
hf=.venv/bin/hf; [ -x "$hf" ] || hf=hf
command -v "$hf" >/dev/null || { echo "huggingface_hub's command hf is not installed: run \`make env\` first." >&2; exit 127; }
for model; do "$hf" download "${model#hf://}" --include '*.safetensors' '*.json' '*.txt' '*.jinja' '*.model'; done
