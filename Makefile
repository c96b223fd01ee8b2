# Every target does its own set-up, from bare Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
UV = $(or $(wildcard $(BIN)/uv),uv)
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench soak lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv from the lock, or leave it as it is when nothing changed
	@$(PYTHON) deploy/setup_environment.py

demo: setup ## Take the tour: real Kafka on this machine, nothing to install or configure
	@$(BIN)/candlewick demo $(ARGS)

test: setup ## Run the tests (ARGS="-k name" picks some)
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else
	@status=0; \
	$(BIN)/python -m pytest --ignore=tests/e2e --numprocesses=2 --dist=loadfile || status=1; \
	$(BIN)/python -m pytest tests/e2e --numprocesses=2 --dist=loadfile || status=1; \
	exit $$status
endif

check: setup ## Lint, formatting, types, and which package may import which
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: setup ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## Run a benchmark: BENCH=hotpath (ARGS=--json for figures as JSON)
	@$(BIN)/python -m benchmarks $(BENCH) $(ARGS)

soak: setup ## Run the long tests that CI has no time for
	@$(BIN)/python -m pytest -m soak --timeout=7200 $(ARGS)

lock: setup ## Renew the lock after a change of dependencies (ARGS=--upgrade for the newest versions)
	@$(UV) pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --quiet --output-file requirements/lock.txt $(ARGS)

clean: ## Remove .venv and the tools' caches; downloads and data elsewhere stay
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
