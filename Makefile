# Every target makes .venv by itself. PYTHON chooses the interpreter: make test PYTHON=python3.12
PYTHON ?= python3
# processes of the tests, one thread each: make test PROCESSES=8
PROCESSES ?= 2
VENV := .venv
BIN := $(VENV)/bin

# Threads that spin while they wait are slow wherever another process needs a core.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help demo test test-stores lint format docs bench accuracy clean

# Each is one command, python -m benchmarks.NAME; with --short it only shows that it works.
BENCHMARKS := graph_scale knn propagation losses affinity map search encode training_step scaling scaling_processes store checks serve_load gpu

help:
	@echo "make demo      train on emoji, evaluate, search: the tour of a few minutes"
	@echo "make test      run the tests"
	@echo "make test-stores  the stores on LanceDB and Milvus Lite, which it installs (400 MB)"
	@echo "make lint      ruff (lint and format) and mypy --strict"
	@echo "make format    let ruff format and fix what it can"
	@echo "make docs      build docs/_build/html"
	@echo "make bench     the short form of every benchmark of speed and memory, into build/bench"
	@echo "make accuracy  all methods and baselines on emoji, into build/bench"
	@echo "make clean     remove .venv and what was built"

# One stamp for each set of extras, so that 'make demo' does not install the test tools.
$(VENV)/.installed-%: pyproject.toml setup.cfg constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$*]'
	touch $@

demo: $(VENV)/.installed-demo
	$(BIN)/python examples/demo.py

test: export OMP_NUM_THREADS ?= 1
# what tests start would compile the library anew each time
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal

test-stores: $(VENV)/.installed-test $(VENV)/.installed-lancedb
	PYG_HASH_MILVUS=1 $(BIN)/python -m pytest tests/stores

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W -b html docs docs/_build/html

bench: $(VENV)/.installed-bench
	set -e; for name in $(BENCHMARKS); do \
		$(BIN)/python -m benchmarks.$$name --short --out build/bench; \
	done

accuracy: $(VENV)/.installed-demo
	$(BIN)/python -m benchmarks.accuracy overview --data emoji --emoji data/emoji \
		--rates 0.3 1 --seeds 0 1 2 --protocols inductive --out build/bench

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache
