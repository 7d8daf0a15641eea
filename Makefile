# Everything a newcomer needs. `make demo` and `make test` set the environment up by themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEMO   := build/demo

.PHONY: demo test check fix bench bench-full clean setup
.DEFAULT_GOAL := demo

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Couchside needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV): about 2.5 GB, mostly the lab's exporters; 2-3 minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)      ## compress the sample, run a TV through an evening, write the HTML page
	@$(BIN)/couchside-demo --out $(DEMO)

test: $(READY)      ## every test, two at once; PYTEST='-n 0 ...' for one after another
	@$(BIN)/python -m pytest -n 2 --dist loadscope $(PYTEST)

check: $(READY)     ## format, lint, types, dependency rule
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

fix: $(READY)       ## what can be mended without thought
	@$(BIN)/ruff format . ; $(BIN)/ruff check --fix .

bench: $(READY)     ## every promise and every table in ten minutes, in build/bench/results
	@$(BIN)/couchside-compress tv-small --out $(DEMO)/lab
	@$(BIN)/python -m couchside.benchmarks.bench run $(DEMO)/lab/bundles

bench-full: $(READY) ## the same without haste, into benchmarks/results, and the page of it
	@$(BIN)/couchside-compress tv-small --out $(DEMO)/lab
	@$(BIN)/python -m couchside.benchmarks.bench run $(DEMO)/lab/bundles --size full --out benchmarks/results
	@$(BIN)/python -m couchside.benchmarks.bench page

clean:              ## everything that can be made again, but the environment
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
