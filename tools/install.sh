#!/usr/bin/env bash
# Make .venv from nothing, or add an extra to it:  tools/install.sh cpu|cuda [EXTRA]
# Versions come from constraints.txt. uv does the work where there is one, else pip.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
accel=$1 extra=${2:-}

uv=$(command -v uv || true)
find_python() {  # the interpreter itself, even when the command found belongs to a virtual environment
  local p
  for p in ${PYTHON:-python3 python3.12 python3.11 python3.13 python3.10}; do
    "$p" -c "import sys
assert sys.version_info >= (3, 10)
if not '$uv': import venv, ensurepip
print(sys._base_executable)" 2>/dev/null && return
  done
  if [ -n "$uv" ] && [ -z "${PYTHON:-}" ]; then echo 3.12; return; fi  # uv fetches one
  echo "Python 3.10 or newer with its venv module is needed, not found as ${PYTHON:-python3, python3.12, python3.11, python3.13 or python3.10}: say where with PYTHON=/path/to/python3." >&2
  return 1
}

if [ -n "$uv" ]; then
  [ -n "${PIP_FIND_LINKS:-}" ] && export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS// /,}}
  install() { uv pip install --quiet --python .venv/bin/python "$@"; }
  make_venv() { uv venv --quiet --seed --python "$python" .venv; }
else
  install() { .venv/bin/python -m pip install -qq --disable-pip-version-check --no-compile "$@"; }
  make_venv() { "$python" -m venv .venv; }
fi

torch=$(grep -o '^torch==[0-9.]*' constraints.txt)
install_torch() {  # one build for machines with an NVIDIA driver, a far smaller one for those without
  case $accel-$(uname -s) in
    cpu-Linux)
      echo "No NVIDIA driver here: taking torch's CPU build."
      install --no-deps "$torch+cpu" 2>/dev/null ||
        PIP_DEFAULT_TIMEOUT=15 PIP_RETRIES=1 UV_HTTP_TIMEOUT=60 install --no-deps "$torch+cpu" --index-url https://download.pytorch.org/whl/cpu 2>/dev/null ||
        echo "torch's CPU build is not to be had from here: the ordinary one comes instead, with several GB of CUDA libraries." ;;
    cuda-*)  # === shuns a "+cpu" build that lies at hand
      install --no-deps "torch===${torch#torch==}" || echo "No plain ${torch} here: taking what the index offers." ;;
  esac
}

if [ -z "$extra" ]; then
  python=$(find_python)
  echo "Making .venv with ${uv:+uv and }$python: a few minutes."
  rm -rf .venv
  make_venv
  install_torch
  install -c constraints.txt -e .
  .venv/bin/python -c 'import torch; print("torch", torch.__version__, "on", "CUDA" if torch.cuda.is_available() else "CPU")'
else
  echo "Adding what [$extra] needs."
  install -c constraints.txt -e ".[$extra]"
fi
