# The two commands that matter: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SPEC ?=
BROKER ?= embedded
JOBS ?= 2
UV_LOCK := uv pip compile --universal --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 --custom-compile-command "make relock"
export UV_SYSTEM_CERTS := true

.PHONY: help install demo test lint bench bench-million chaos relock clean
.DEFAULT_GOAL := help

help:  ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## Create .venv from the lock file (about 360 MB on disk)

$(STAMP): requirements.lock pyproject.toml .ci/bootstrap
	@.ci/bootstrap "$(PYTHON)" "$(VENV)"
	@touch $@

demo: $(STAMP)  ## One event on an embedded bus becomes a measured service (SPEC=path, BROKER=kafka)
	@exec $(BIN)/backwright demo $(if $(SPEC),--spec "$(SPEC)") --broker $(BROKER)

test: $(STAMP)  ## All tests (JOBS=2 at a time, by file)
	@$(BIN)/pytest -q --durations=15 -n $(JOBS) --dist loadfile

lint: $(STAMP)  ## ruff, mypy, import-linter, contracts up to date
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports && $(BIN)/backwright contracts --check

bench: $(STAMP)  ## Ratios measured side by side; results in build/bench.json
	@$(BIN)/python -m tests.bench

chaos: $(STAMP)  ## A storm of faults over Kafka and PostgreSQL (CHAOS_TASKS, CHAOS_SEED, CHAOS_MINUTES)
	@$(BIN)/python -m tests.chaos

bench-million: $(STAMP)  ## A journal of a million finished tasks against an empty one
	@$(BIN)/python -m tests.bench million

relock: $(STAMP)  ## Refresh the lock files of the project and of the delivered services
	@$(BIN)/$(UV_LOCK) --all-extras -q pyproject.toml -o requirements.lock
	@$(BIN)/$(UV_LOCK) -q pyproject.toml -c requirements.lock -o deploy/docker/requirements.lock
	@$(BIN)/$(UV_LOCK) -q deploy/docker/build.in -o deploy/docker/build.lock

clean:  ## Remove the environment, caches and builds (delivered services lie in workspace/ and stay)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
