# `make` alone lists what there is. Every target makes its own environment in .venv first, and re-uses it while
# pyproject.toml and constraints.txt stay as they are.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | tr ' ' '-')
FLOOR := $(shell sed -n 's/^requires-python = ">=\([0-9.]*\)".*/\1/p' pyproject.toml)

# A value reaches a command through the environment, quoted by the shell: make never writes it into a command line.
VARIABLES := PRESET CASES MODEL SEED OUT RECIPE ROUNDS STRICT LESIONS SMALL REPORT
$(foreach v,$(VARIABLES) PYTHON,$(if $(findstring $$,$(value $v)),$(error $v= holds a dollar sign, which make would \
	expand: use python -m medalign_lite, or another name)))
export $(VARIABLES) PYTHON
ARGUMENTS = $(foreach v,$(VARIABLES),$(if $(value $v),"$v=$$$v"))
UNKNOWN := $(filter-out $(VARIABLES) PYTHON,$(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $(v))),$(v))))
ifneq ($(strip $(filter-out MAKEFLAGS MAKEOVERRIDES -%,$(UNKNOWN))),)
$(error unknown variable $(UNKNOWN); allowed: $(VARIABLES) PYTHON)
endif

NOTEBOOKS := $(wildcard notebooks/*.ipynb notebooks/solutions/*.ipynb)
# Committed notebooks hold no outputs, and nothing that changes when they are run; cell ids stay.
STRIP := --keep-id --extra-keys "metadata.papermill metadata.language_info cell.metadata.papermill cell.metadata.execution"

.PHONY: help env reproduce test fuzz lint doctor models export cases masks base-model samples claims reader-bench gates \
	conformance perf sbom figures lab instructor slides wheels site clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PRESET=ci|workshop|full|auto   the one dial (default auto: it chooses, and says why)"
	@echo "  CASES=path                     your cases: a cases.jsonl, or the folder of a known data set"
	@echo "  MODEL=path-or-hub-id           your model; nothing is fetched unasked"
	@echo "  SEED=7  OUT=artifacts          the seed, and the folder that is written to"
	@echo "  RECIPE=fire-mpo,dpo            what is trained, the last one is the aligned model (default: the preset's)"
	@echo "  ROUNDS=2                       the aligned policy answers again and learns from that (default: one round)"
	@echo "  LESIONS=mass,nodule            which categories of a COCO list are lesions (default: guessed, and told)"
	@echo "  STRICT=1                       the first bad case stops the run (default: skipped, counted, reported)"
	@echo "  SMALL=1                        make claims in a quarter of an hour: fewer people, seeds and arms"

env: $(READY) ## make or update the environment in .venv

$(READY):
	@case "$$(uname -sm)" in "Darwin x86_64") echo "error: Intel Macs are not supported (there is no torch for them): use Linux, Windows with WSL 2, or a Mac with Apple silicon" >&2; exit 1;; esac
	@test -w . || { echo "error: $$PWD cannot be written: copy or clone the repository to a folder of yours" >&2; exit 1; }
	@command -v "$$PYTHON" >/dev/null || { echo "error: there is no $$PYTHON; install Python $(FLOOR) or newer, or give PYTHON=path" >&2; exit 1; }
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(FLOOR)".split("."))))' || { echo "error: $$PYTHON is $$("$$PYTHON" -V 2>&1), and this needs $(FLOOR) or newer (conda, pyenv and uv bring one): give PYTHON=path" >&2; exit 1; }
	@$(PY) -c '' 2>/dev/null || { echo "making $(VENV) with $$("$$PYTHON" -V)"; "$$PYTHON" -m venv --clear $(VENV) || { echo "error: $$PYTHON cannot make environments; on Debian: apt-get install python3-venv" >&2; exit 1; }; }
	@echo "installing the pinned packages into $(VENV): some minutes the first time"
	@set -o pipefail; $(PY) -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[dev,dicom,parquet,nifti,site]' | awk -v all=$$(grep -c == constraints.txt) '/^Collecting/ {printf "  %3d of about %d: %s\n", ++n, all, $$2} /^(Installing|Building)/ {print "  " $$1 " ..."} {fflush()}'
	@rm -f $(VENV)/.ready-* && touch $@

reproduce: $(READY) ## the eight notebooks in order, from a model's own answers to report.html
	@$(PY) -m medalign_lite reproduce $(ARGUMENTS)

test: $(READY) lint ## lint, unit tests, the ci run of the eight notebooks, and their solutions
	$(PY) -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder
	$(PY) -m medalign_lite reproduce PRESET=ci
	CUDA_VISIBLE_DEVICES= MEDALIGN_HEADLESS=1 $(PY) -m pytest --nbmake --nbmake-timeout=1200 -n 2 notebooks/solutions/*.ipynb

fuzz: $(READY) ## 1,000 corruptions a reader of data sets, within limits on seconds and memory (minutes)
	FUZZ=1000 $(PY) -m pytest -n logical --maxprocesses 8 tests/test_reader_fuzz.py

lint: $(READY) ## ruff on code and notebooks; notebooks are committed without outputs
	$(PY) -m ruff check .
	$(if $(NOTEBOOKS),$(PY) -m nbstripout --verify $(STRIP) $(NOTEBOOKS),@echo "no notebooks to check")

cases: $(READY) ## what is read from CASES=, before anything is run on it: counts, splits, a contact sheet
	@$(PY) -m medalign_lite cases $(ARGUMENTS)

masks: $(READY) ## outlines for lesions that CASES= marks by box or point, by a SAM-family MODEL=
	@$(PY) -m medalign_lite masks $(ARGUMENTS)

doctor: $(READY) ## is this machine ready, and what to do if not
	@$(PY) -m medalign_lite doctor $(ARGUMENTS)

models: $(READY) ## fetch the weights of PRESET= or MODEL= ahead, size first; resumable, and runs are offline after
	@$(PY) -m medalign_lite models $(ARGUMENTS)

export: $(READY) ## adapter, merged model and NF4 model of a run, with model cards (docs/SERVING.md)
	@$(PY) -m medalign_lite export $(ARGUMENTS)

base-model: $(READY) ## train the embedded model from scratch and measure it (about an hour on two cores)
	$(PY) -m studies.embedded.train
	$(PY) -m studies.embedded.card

samples: $(READY) ## render the cases in data_samples again
	$(PY) -m studies.embedded.samples

claims: $(READY) ## which claims hold: screening, then confirmation on fresh people (hours; SMALL=1: minutes; REPORT=1: the page)
	@$(PY) -m studies.claims $(ARGUMENTS)

reader-bench: $(READY) ## how the reader of real reports does on its own table, and how fast
	$(PY) benchmarks/claims_bench.py

gates: $(READY) ## texts with the right reading beside them: docs/GATES.md (DATA=dir: SLAKE or VQA-RAD as published too)
	@$(PY) -m benchmarks.gates --write $(if $(value DATA),--data "$$DATA")

conformance: $(READY) ## which model types can be used: each tried tiny, docs/MODELS.md (about ten minutes on two cores)
	@$(PY) -m benchmarks.conformance

perf: $(READY) ## time and memory against TRL and naive code: docs/PERFORMANCE.md (about 20 minutes on two cores)
	@$(PY) -m benchmarks.perf $(if $(value OUT),--out "$$OUT")

sbom: $(READY) ## bill of materials: every installed package with version and licence, CycloneDX JSON in sbom.json
	$(PY) -m cyclonedx_py environment --pyproject pyproject.toml --output-reproducible -o sbom.json
	@echo "sbom.json"

clean: ## remove caches and artifacts/ (your results too); .venv stays
	rm -rf artifacts .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# --- the door and the class -------------------------------------------------------------------------------------------
RUN := "$${OUT:-artifacts}/$${PRESET:-ci}"

figures: $(READY) ## README's picture and headline and TEACHING's minutes, from a finished run
	@$(PY) -m studies.lesson.minutes $(RUN)
	@$(PY) -m studies.lesson.door $(RUN)

lab: $(READY) ## a working copy of the notebooks in JupyterLab, under artifacts/lab: git never sees what you write
	@$(PY) -m studies.lesson.copies artifacts/lab
	$(PY) -m jupyter lab --ServerApp.root_dir=artifacts/lab --LabApp.default_url=/lab/tree/notebooks/00_start.ipynb

instructor: $(READY) ## the same with the solutions in place, under artifacts/instructor
	@$(PY) -m studies.lesson.copies artifacts/instructor --instructor
	$(PY) -m jupyter lab --ServerApp.root_dir=artifacts/instructor --LabApp.default_url=/lab/tree/notebooks/00_start.ipynb

slides: $(READY) ## the notebooks as slides, one self-contained file each: artifacts/slides
	@$(PY) -m studies.lesson.slides $(RUN) artifacts/slides

wheels: $(READY) ## a folder for a USB stick that installs everything without a network: artifacts/wheels
	@$(PY) -m studies.lesson.wheels artifacts/wheels

site: $(READY) ## docs, executed notebooks, results and report as a static site with search: artifacts/site
	@$(PY) -m studies.lesson.site $(RUN) artifacts/site
