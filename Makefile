# `make demo` and `make test` do everything, on a fresh clone too; a second call reuses .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= $(shell n=$$(nproc) && echo $$((n < 4 ? n + 1 : 4)))
# the versions of everything that is installed; `CONSTRAINTS=` takes the newest that fit
CONSTRAINTS ?= constraints.txt
PINNED := $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PINNED)
INSTALL := .ci/install $(PYTHON) $(VENV)

.PHONY: help demo test check types rules format prose quick fuzz bench gpu screenshots docs chaos powercut shutdown night nospawn clusters release matrix bill clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.installed ## train, poison, test and unlearn detectors on sample images, through the queue
	$(BIN)/launcher run tasks/quickstart.yaml

# many tests wait for processes of their own: three at a time are the quickest on two cores; those of a file share
# what they start, so a file is done by one worker, and the dearest files come first (tests/dear.txt)
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

quick: $(VENV)/.developing ## a few minutes on two idle cores, for every save: pure logic, and a queue with real processes
	$(PYTEST) --quick -m "not slow and not night"

test: check ## everything that must hold before a change lands; what CI runs
	$(PYTEST) -m "not night"

check: $(VENV)/.developing ## format, lint, types, import contracts, prose
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory -j 2 --output-sync=target types rules

types: # without a cache, which takes a minute, in two processes
	$(BIN)/mypy $(if $(wildcard .mypy_cache),,--num-workers 2)

rules:
	$(BIN)/lint-imports
	$(BIN)/python .ci/prose.py
	$(BIN)/python .ci/glossary.py
	PYTHONPATH=. $(BIN)/python .ci/generated_files.py
	PYTHONPATH=. $(BIN)/python .ci/verb_table.py
	$(BIN)/python -m benchmarks.measured

fuzz: $(VENV)/.developing ## the property tests with examples that are new on every run
	$(BIN)/python -m pytest -n $(WORKERS) -m hypothesis --hypothesis-profile=fuzz

format: $(VENV)/.developing ## put the code into the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

prose: $(VENV)/.developing ## lower the counts in .ci/prose_baseline.txt after sentences were reworded
	$(BIN)/python .ci/prose.py --write

bench: $(VENV)/.developing ## measure; prints tables, asserts nothing; RECORD=1 writes them for benchmarks/RESULTS.md
	$(PIP) -e '.[lab,bench]'
	$(BIN)/python -m benchmarks.queue
	$(BIN)/python -m benchmarks.commands
	$(BIN)/python -m benchmarks.screens
	$(BIN)/python -m benchmarks.simulation
	$(BIN)/python -m benchmarks.lab
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks.planning

# PYTHON=... names an interpreter that has a torch for this GPU; without it that of .venv is taken
ifeq ($(origin PYTHON),file)
GPU_PYTHON := $(BIN)/python
GPU_NEEDS := $(if $(wildcard $(BIN)/python),,$(VENV)/.installed)
else
GPU_PYTHON := $(PYTHON)
endif

gpu: $(GPU_NEEDS) ## measure what only a GPU can tell, in nine minutes; without one it says so; RECORD=1 as for bench
	$(GPU_PYTHON) -m benchmarks.gpu $(GPU)

screenshots: $(VENV)/.developing ## take the pictures of docs/ anew, from a real queue on stand-in GPUs
	$(BIN)/python -m tests.screenshots

docs: $(VENV)/.developing ## build the site in build/site, where a broken link is an error, and build/man
	PYTHONPATH=. $(BIN)/python .ci/manual_pages.py build/man
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file .ci/mkdocs.yml

chaos: $(VENV)/.developing ## kill -9 at random during 500 jobs, and 400 without the guard, which must fail
	$(BIN)/python -m tests.chaos $(CHAOS)
	! $(BIN)/python -m tests.chaos --without-guard --jobs 400

powercut: $(VENV)/.developing ## cut the power 2,000 times in the record of 40 jobs; without syncs that must fail
	$(BIN)/python -m tests.powercut $(POWERCUT)
	! $(BIN)/python -m tests.powercut --without-syncs --cuts 50 --restarts 0

shutdown: $(VENV)/.developing ## SIGTERM to everything, as at a reboot, 200 times; no job may fail of it
	$(BIN)/python -m tests.chaos.shutdown $(SHUTDOWN)

# the examples and the starts that `make test` saves are made here
night: $(VENV)/.developing ## the tests that `make test` leaves out; 300 jobs, killed and restarted five times
	$(PYTEST) -m "night or hypothesis" --hypothesis-profile=night
	LAUNCHER_TESTS_STARTS=anew $(PYTEST) -m "not night" tests/e2e tests/launcher tests/slurm
	$(PIP) -e '.[diffusion,landmarks,nudity]'
	LAUNCHER_TESTS_EXTRAS=required $(PYTEST) tests/trueface/generators/diffusion tests/trueface/generators/erasing \
	  tests/trueface/data/test_landmarks.py tests/trueface/cli/test_import_landmarks.py
	$(BIN)/python -m tests.chaos.night

nospawn: $(VENV)/.developing ## 1,000 jobs wait for a minute in which no process can be started
	$(BIN)/python -m tests.chaos.nospawn

clusters: $(VENV)/.developing ## 200 jobs on a Slurm and a Ray of three nodes each, whose parts are killed and frozen; half an hour
	$(BIN)/python -m tests.clusters $(CLUSTERS)

release: ## build wheel and source archive of the commit into dist/, checked and equal to the byte everywhere
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || \
	  { echo "error: '$(PYTHON)' is no Python of 3.11 or newer. Name one: make PYTHON=python3.12 release" >&2; exit 1; }
	@$(PYTHON) .ci/release.py

matrix: ## try the wheel in dist/ with each Python that is there, and with each extra; takes 20 GB and half an hour
	@$(PYTHON) .ci/matrix.py

bill: ## write the bill of materials of each extra into dist/, and the page of licences
	@$(PYTHON) .ci/bill.py

clean: ## remove what the targets made, but not runs/ and data/
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# `pip install .` brings the queue alone; the extra `lab` brings torch and the rest of the laboratory
$(VENV)/.installed: setup.cfg pyproject.toml $(CONSTRAINTS)
	@echo "installing the project into $(VENV): with torch about 6 GB, which takes minutes"
	@$(INSTALL) lab,web,data $(if $(wildcard $(VENV)/.installed),0,8) $(PINNED)
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	@$(INSTALL) lab,timm,web,data,notify,tensorboard,docs,dev $(if $(wildcard $@),0,1) $(PINNED)
	@touch $@
