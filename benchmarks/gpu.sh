#!/usr/bin/env bash
# Everything that a GPU is wanted for, in under 8 minutes: first whether the CUDA paths are right, then speed and memory at the
# shape of Qwen2.5-1.5B with random weights.  [PYTHON=python3] [OUT=folder of the JSON files] benchmarks/gpu.sh
# Takes the machine as it finds it (torch 2.11 or newer and transformers); what is missing is skipped with a sentence.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
python=${PYTHON:-python3} out=${OUT:-benchmarks/results} failed=0
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 PYTORCH_ALLOC_CONF=${PYTORCH_ALLOC_CONF:-expandable_segments:True}

"$python" - <<'PY' || exit 1
import importlib.util as u, sys
missing = [m for m in ('torch', 'transformers') if not u.find_spec(m)]
if missing: sys.exit(f"{' and '.join(missing)} not installed: nothing can run")
for name, without in dict(pandas='memory is not predicted', trl="TRL's row is left out", vllm='TRL generates without it, and its guards meet nobody', bitsandbytes='the fused AdamW is used, and nothing is held in few bits').items():
    if not u.find_spec(name): print(f'{name} is not installed: {without}.')
import torch, transformers
if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 11): sys.exit(f'torch {torch.__version__} is too old: 2.11 is needed')
print(f'torch {torch.__version__}, transformers {transformers.__version__}')
if not torch.cuda.is_available(): sys.exit('torch sees no GPU here: nothing to measure')
print(torch.cuda.get_device_name(), f'{torch.cuda.get_device_properties(0).total_memory/2**30:.0f} GiB')
PY

stage() { # seconds, then a script of benchmarks/ with its options
  local limit=$1 script=$2 start=$SECONDS; shift 2
  echo; echo "== $script $*"
  timeout -k 5 "$limit" "$python" "benchmarks/$script" --device cuda "$@" 2>&1
  local rc=$?
  case $rc in
    0) ;;
    124|137) echo "$script was stopped after $limit s"; failed=1 ;;
    *) echo "$script failed with status $rc"; failed=1 ;;
  esac
  echo "($((SECONDS - start)) s)"
}

big=(--model 1.5B --dtype bfloat16 --new 160 --out "$out")
stage 55 cuda_check.py # the seconds add up to 480
stage 160 step.py "${big[@]}" --repeats 3 --tune --tune-seconds 30 --no-peak
stage 105 adapters.py "${big[@]}" --repeats 1
"$python" -c "import pandas" 2>/dev/null && stage 30 memory.py "${big[@]}"
stage 60 update.py "${big[@]}" --repeats 2
stage 55 decode.py "${big[@]}" --repeats 1
stage 15 saving.py --shape 1.5B --out "$out"
"$python" -c "import vllm" 2>/dev/null && stage 90 served.py --dtype bfloat16 --out "$out" # Beyond the 480
exit $failed
