# The two commands of a first day: make demo, make test.
PYTHON ?= python3
PINS ?= requirements.txt
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two processes of one thread each: more threads slow down networks as small as those of the tests.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=loadgroup --durations=10
CODE := $(filter-out tests/ benchmarks/,$(sort $(dir $(wildcard */*.py)))) $(wildcard *.py)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check bench venv

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: $(STAMP)  ## prune a small model, fine-tune it, compare both (installs 6 GB first)
	$(BIN)/python evaluate.py compressor=l1_filter compressor.sparsity=0.5 finetune=short

test: $(STAMP)  ## the fast tests
	$(PYTEST)

test-slow: $(STAMP)  ## all tests, with many more examples of each property
	HYPOTHESIS_PROFILE=ci $(PYTEST) --runslow

check: $(STAMP)  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(CODE)

bench: $(STAMP)  ## every script of benchmarks/; they print ratios
	@for script in benchmarks/*.py; do \
		[ -e "$$script" ] || { echo "benchmarks/ has no script"; exit 0; }; \
		echo "== $$script"; $(BIN)/python "$$script" || exit 1; \
	done

venv: $(STAMP)  ## the environment all other targets use

# The stamp is older than what it was made from: install again.
$(STAMP): pyproject.toml requirements.txt setup.py
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) was not found; install Python 3.10 or later, or: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "expected Python 3.10 or later, got $$($(PYTHON) --version 2>&1);" \
			"name another: make PYTHON=python3.12" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make environments; on Debian or Ubuntu: sudo apt install python3-venv" >&2; \
		exit 1; }
	@echo "installing into $(VENV): about 6 GB, two minutes on a fast line, once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(PINS),-c $(PINS)) -e '.[dev]'
	@touch $@
