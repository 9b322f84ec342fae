# `make` alone lists what there is. Every target makes its own environment in .venv first, and re-uses it while
# pyproject.toml and constraints.txt stay as they are.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | tr ' ' '-')

VARIABLES := PRESET CASES MODEL SEED OUT RECIPE ROUNDS STRICT SMALL CONFIRM
ARGUMENTS = $(foreach v,$(VARIABLES),$(if $($(v)),'$(v)=$($(v))'))
UNKNOWN := $(filter-out $(VARIABLES) PYTHON,$(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $(v))),$(v))))
ifneq ($(strip $(filter-out MAKEFLAGS MAKEOVERRIDES -%,$(UNKNOWN))),)
$(error unknown variable $(UNKNOWN); allowed: $(VARIABLES) PYTHON)
endif

NOTEBOOKS := $(wildcard notebooks/*.ipynb notebooks/solutions/*.ipynb)
# Committed notebooks hold no outputs, and nothing that changes when they are run; cell ids stay.
STRIP := --keep-id --extra-keys "metadata.papermill metadata.language_info cell.metadata.papermill cell.metadata.execution"

.PHONY: help env reproduce test lint doctor models export cases masks base-model samples claims claims-bench perf lab clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PRESET=ci|workshop|full|auto   the one dial (default auto: it chooses, and says why)"
	@echo "  CASES=path                     your cases: a cases.jsonl, or the folder of a known data set"
	@echo "  MODEL=path-or-hub-id           your model; nothing is fetched unasked"
	@echo "  SEED=7  OUT=artifacts          the seed, and the folder that is written to"
	@echo "  RECIPE=fire-mpo,dpo            what is trained, the last one is the aligned model (default: the preset's)"
	@echo "  ROUNDS=2                       the aligned policy answers again and learns from that (default: one round)"
	@echo "  STRICT=1                       the first bad case stops the run (default: skipped, counted, reported)"
	@echo "  SMALL=1                        make claims in a quarter of an hour: fewer people, seeds and arms"
	@echo "  CONFIRM=1                      make claims about fresh people, ten seeds (about eight hours of one core)"

env: $(READY) ## make or update the environment in .venv

$(READY):
	@command -v $(PYTHON) >/dev/null || { echo "error: there is no $(PYTHON); install Python 3.11 or newer, or give PYTHON=path" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), and this needs 3.11 or newer: give PYTHON=path" >&2; exit 1; }
	@$(PY) -c '' 2>/dev/null || { echo "making $(VENV) with $$($(PYTHON) -V)"; $(PYTHON) -m venv --clear $(VENV) || { echo "error: $(PYTHON) cannot make environments; on Debian: apt-get install python3-venv" >&2; exit 1; }; }
	@echo "installing the pinned packages into $(VENV): some minutes the first time"
	@$(PY) -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[dev,dicom,parquet,nifti]' | awk -v all=$$(grep -c == constraints.txt) '/^Collecting/ {printf "  %3d of about %d: %s\n", ++n, all, $$2} /^(Installing|Building)/ {print "  " $$1 " ..."} {fflush()}'
	@rm -f $(VENV)/.ready-* && touch $@

reproduce: $(READY) ## the eight notebooks in order, from a model's own answers to report.html
	@$(PY) -m medalign_lite.run.reproduce $(ARGUMENTS)

test: $(READY) lint ## lint, unit tests, the ci run, and every notebook with its solutions
	$(PY) -m pytest -n logical --maxprocesses 8 --dist loadfile
	$(PY) -m medalign_lite.run.reproduce PRESET=ci
	$(if $(NOTEBOOKS),CUDA_VISIBLE_DEVICES= MEDALIGN_HEADLESS=1 $(PY) -m pytest --nbmake --nbmake-timeout=1200 $(NOTEBOOKS),@echo "no notebooks to run")

lint: $(READY) ## ruff on code and notebooks; notebooks are committed without outputs
	$(PY) -m ruff check .
	$(if $(NOTEBOOKS),$(PY) -m nbstripout --verify $(STRIP) $(NOTEBOOKS),@echo "no notebooks to check")

cases: $(READY) ## what is read from CASES=, before anything is run on it: counts, splits, a contact sheet
	@$(PY) -m medalign_lite.run.cases $(ARGUMENTS)

masks: $(READY) ## outlines for lesions that CASES= marks by box or point, by a SAM-family MODEL=
	@$(PY) -m medalign_lite.run.masks $(ARGUMENTS)

doctor: $(READY) ## is this machine ready, and what to do if not
	@$(PY) -m medalign_lite.run.doctor $(ARGUMENTS)

models: $(READY) ## fetch the weights of PRESET= or MODEL= ahead, size first; resumable, and runs are offline after
	@$(PY) -m medalign_lite.run.models $(ARGUMENTS)

export: $(READY) ## adapter, merged model and NF4 model of a run, with model cards (docs/SERVING.md)
	@$(PY) -m medalign_lite.run.export $(ARGUMENTS)

base-model: $(READY) ## train the embedded model from scratch and measure it (about an hour on two cores)
	$(PY) -m studies.embedded.train
	$(PY) -m studies.embedded.card

samples: $(READY) ## render the cases in data_samples again
	$(PY) -m studies.embedded.samples

claims: $(READY) ## which of the method's claims hold: every arm at every seed, docs/RESULTS.md (hours; SMALL=1: minutes)
	@$(PY) -m studies.claims $(ARGUMENTS)

claims-bench: $(READY) ## how the reader of real reports does on its own table, and how fast
	$(PY) benchmarks/claims_bench.py

perf: $(READY) ## time and memory against TRL and naive code: docs/PERFORMANCE.md (about 20 minutes on two cores)
	@$(PY) -m benchmarks.perf $(if $(OUT),--out '$(OUT)')

lab: $(READY) ## open the notebooks
	$(PY) -m jupyter lab notebooks

clean: ## remove caches and artifacts/ (your results too); .venv stays
	rm -rf artifacts .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
