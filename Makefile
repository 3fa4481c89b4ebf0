# The project's tasks. `make` alone lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

help: ## List the tasks.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

setup: ## Make .venv with the locked dependencies and this package.
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -r requirements.lock
	$(BIN)/pip install -q --no-deps -e .

demo: setup ## Run the main job on the built-in example.
	$(BIN)/prefect-lume demo

test: setup ## Run every test that this machine has services for.
	$(BIN)/pytest

services: ## Start the real servers that the tests use (Debian, as root).
	scripts/services start

lint: ## Check style, types and layers.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: ## Format the code.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: ## Measure what the project promises.
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/demo.py

lock: ## Resolve the dependencies anew (needs uv).
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --all-extras --group dev --no-emit-index-url --no-annotate --no-strip-extras \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock

.PHONY: help setup demo test services lint format bench lock
