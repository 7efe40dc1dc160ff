# `make run` and `make test` install what they need, into .venv; `make help` lists the rest.
VENV := .venv
PYTHON := python3
BIN := $(VENV)/bin
CACHE := build/cache
ARM64 := $(CACHE)/.arm64
# The tests' caches stay in the checkout: they neither see nor change what the user's own runs have cached.
TESTS := SPLITBENCH_CACHE_DIR="$(CURDIR)/$(CACHE)" $(BIN)/python -m pytest
INSTALL := PYTHON=$(PYTHON) .ci/install

.PHONY: run test test-all check benchmark docs lock clean help

run: $(VENV)/.installed  ## Measure and attack every split of efficientnet_lite0 on this machine
	$(BIN)/bench run --split all

test: check $(ARM64)  ## Check the code and run all but the slow tests
	$(TESTS) -m "not slow" -n 2 --dist loadfile

test-all: check $(ARM64)  ## Check the code and run every test, the slow ones included
	$(TESTS)

check: $(VENV)/.installed-test  ## Lint, format, types, who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

benchmark: $(VENV)/.installed-test $(ARM64)  ## Compare speeds in interleaved pairs; leave the machine alone meanwhile
	$(BIN)/python -m tests.benchmarks

docs: $(VENV)/.installed  ## Write docs/table.md from the schema
	$(BIN)/python -c 'from harness.results.columns import as_markdown; print(as_markdown(), end="")' > docs/table.md

lock: $(VENV)/.installed-test  ## Write the versions in .venv to requirements.lock, below its comment
	{ sed '/^[^#]/,$$d' requirements.lock; $(BIN)/pip freeze --all --exclude-editable --exclude pip | sed 's/+.*//'; } \
		> requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:  ## Delete what was built, and the caches; .venv, exports and runs stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

help:  ## This list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

# Stamps: they are as new as the last installation, and what a test needs includes what a run needs.
$(VENV)/.installed: pyproject.toml requirements.lock .ci/install
	$(INSTALL) run $(VENV)
	touch $@

$(VENV)/.installed-test: pyproject.toml requirements.lock .ci/install
	$(INSTALL) test $(VENV)
	touch $(VENV)/.installed $@

# What the ARM64 bundle is made from is fetched before the tests, which use no network.
$(ARM64): $(VENV)/.installed-test
	SPLITBENCH_CACHE_DIR="$(CURDIR)/$(CACHE)" $(BIN)/python -c 'from device_runner.bundle import build_bundle; build_bundle("arm64")'
	touch $@
