# Everything a developer or an operator runs. A comment after two hashes is the help text.
.DEFAULT_GOAL := help
BIN := .venv/bin
# `make test WORKERS=1` runs the tests one after the other.
WORKERS ?= 2
TESTS ?= tests
ROUNDS ?= 20
CRASHES := tests/flows/test_kills.py tests/hub/worker/test_kills.py tests/hub/metering/test_ingest.py \
  tests/hub/metering/test_outages.py tests/hub/private
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
LOCK := uv pip compile pyproject.toml --generate-hashes --universal --no-header --no-annotate -q

.PHONY: help setup demo up test check lint types imports lock-check lock bench faults

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: system packages (Debian, Ubuntu) and Python packages in .venv
	@setup/install

demo: setup ## set up, then run a simulated town on this machine
	$(BIN)/curbstop demo

up: setup ## set up, then run the hub on this machine with its own database and broker
	$(BIN)/curbstop up

test: setup ## set up, then all tests on a real PostGIS, Mosquitto and Chromium
	$(BIN)/pytest $(PARALLEL) $(TESTS)

check: setup lock-check lint types imports ## lint, types, import rules and all tests
	$(BIN)/pytest $(PARALLEL) $(TESTS)

lint: ## format and style (ruff)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: ## types (mypy, strict)
	$(BIN)/mypy

imports: ## who may import whom (import-linter)
	$(BIN)/lint-imports

lock-check: ## that the lock files name no address
	@if grep -nE '://|file:' requirements.lock requirements-image.lock; then \
	  echo "a lock file names an address: make it anew with 'make lock'"; exit 1; fi

lock: ## resolve pyproject.toml into the lock files (hashed, without addresses); needs uv
	$(LOCK) --all-extras --group dev -o requirements.lock
	$(LOCK) -c requirements.lock -o requirements-image.lock

bench: setup ## side-by-side benchmarks, written into docs/benchmarks.md; BENCH=webhooks runs one
	$(BIN)/python -m benchmarks._report $(BENCH)

faults: setup ## the crash campaign: every process killed at seeded instants; ROUNDS=20, each with a seed of its own
	@echo "== 200,000 readings, 20 kills"; KILL_READINGS=200000 $(BIN)/pytest tests/hub/metering/test_ingest.py -k twenty
	@echo "== a night at once"; BURST_LARGE=400 BURST_SMALL=1000000 $(BIN)/pytest -s tests/hub/metering/test_burst.py
	@for round in $$(seq 1 $(ROUNDS)); do \
	  echo "== round $$round of $(ROUNDS)"; \
	  KILL_SEED=$$round $(BIN)/pytest $(CRASHES) || { echo "seed $$round broke it"; exit 1; }; done
