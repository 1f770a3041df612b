# `make help` lists the commands. Nothing needs to be installed first but Python 3.10+ (or uv).
SHELL   := /bin/bash
# containers often forbid bytecode: each process would compile its libraries anew, which takes longer than importing them
unexport PYTHONDONTWRITEBYTECODE
RUN     ?= grpo
ARGS    ?=
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))
# cuda where an NVIDIA driver answers (or .venv has that build already), else cpu
ACCEL   ?= $(shell { nvidia-smi || [ -e .venv/.base-cuda ]; } >/dev/null 2>&1 && echo cuda || echo cpu)
BASE    := .venv/.base-$(ACCEL)
DEV     := .venv/.dev-$(ACCEL)
DOCS    := .venv/.docs-$(ACCEL)
VLLM    := .venv-vllm/.made-$(ACCEL)
IN_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"

.PHONY: help train test test-slurm test-site test-ui test-vllm docs env dev export clean prepare readme
.DEFAULT_GOAL := help

help: ## list these commands
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

train: $(BASE) ## train a model and leave its record: make train RUN=r1 ARGS="-p iterations 50"
	@tools/record.sh nbs/10_training.ipynb $(RUN) -p run_name $(RUN) $(ARGS)

test: $(DEV) ## every check: repository, notebooks, papermill smoke runs, wheel
	@$(IN_VENV) OMP_NUM_THREADS=1 python -m pytest -q -n $(WORKERS) --dist loadgroup

test-slurm: $(DEV) ## the scripts in slurm/ on a Slurm of their own (root, Debian or Ubuntu; about five minutes)
	@$(IN_VENV) OMP_NUM_THREADS=1 python -m pytest -q -s tests/slurm/on_slurm.py

docs: $(DOCS) ## the site, in _docs/
	@$(IN_VENV) OMP_NUM_THREADS=1 python tools/docs.py

test-site: $(DOCS) ## every page of the site in a browser (Debian's chromium, installed if need be; SITE=_docs takes what is built)
	@$(IN_VENV) OMP_NUM_THREADS=1 python -m pytest -q tests/site/on_site.py

test-ui: $(DEV) ## the views of a run in JupyterLab and a browser (UI_SHOTS=folder keeps pictures; about two minutes)
	@$(IN_VENV) OMP_NUM_THREADS=1 python -m pytest -q -s -rs tests/ui/on_lab.py

test-vllm: $(VLLM) ## a real vLLM as the sampling engine, in an environment of its own (4 GB, about eleven minutes)
	@PATH="$(CURDIR)/.venv-vllm/bin:$$PATH" OMP_NUM_THREADS=1 python -m pytest -q -s -rs tests/served/on_vllm.py

env: $(BASE) ## only make .venv, as train does

dev: $(DEV) ## .venv with nbdev and the test tools

export: $(DEV) ## write grpo_nb/ from nbs/
	@$(IN_VENV) nbdev_export

clean: $(DEV) ## strip volatile metadata from nbs/
	@$(IN_VENV) nbdev_clean

readme: $(DEV) ## write README.md from nbs/index.ipynb
	@$(IN_VENV) python tools/readme.py

prepare: export clean readme test ## before each commit

$(BASE): pyproject.toml constraints.txt tools/install.sh
	@tools/install.sh $(ACCEL) && touch $@

$(DEV): $(BASE)
	@tools/install.sh $(ACCEL) dev && touch $@

$(DOCS): $(DEV)
	@tools/install.sh $(ACCEL) docs && touch $@

$(VLLM): $(DEV) tools/vllm_env.sh
	@tools/vllm_env.sh $(ACCEL) && touch $@
