# groundlake on one machine. Needs git and Python 3.11 or 3.12; everything else is installed into this folder.
#   PYTHON=<path>        the Python to build the environment with (to change it later: make distclean first)
#   UV=<path>            a uv of your own (at a site where none can be downloaded)
#   TORCH_INDEX=<url>    take torch from another index, such as one of CPU wheels (its hashes are then not checked)
#   SKIP_DISK_CHECK=1    install however little space is free

SHELL := /bin/bash
.DEFAULT_GOAL := help
# Python would otherwise compile its packages anew in every process: Airflow then takes minutes to start.
unexport PYTHONDONTWRITEBYTECODE

# Each is tried by running it: a pyenv shim may exist for a version that is not active.
PYTHON ?= $(shell for python in python3.12 python3.11 python3 python; do \
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null \
	&& command -v "$$python" && break; done)
BIN := .venv/bin

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: install
install: ## Create or update .venv from the locks; every target below does it first
	@python="$(PYTHON)"; if ! command -v "$$python" >/dev/null; then \
		echo "make: no Python 3.11 or 3.12 found $${python:+at $$python }(img2dataset does not run on 3.13)" >&2; \
		echo "  -> install one ('apt install python3.11 python3.11-venv', 'brew install python@3.12')," >&2; \
		echo "     or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	"$$python" images/locks/install.py --uv "$(UV)" --torch-index "$(TORCH_INDEX)" $(if $(SKIP_DISK_CHECK),--no-disk-check)

.PHONY: demo
demo: install ## Urls to training manifests through a real Airflow, here, offline; again: only what is new
	@$(BIN)/groundlake demo run

.PHONY: ui
ui: install ## The demo's Airflow, kept running; prints address and login
	@$(BIN)/groundlake demo ui

.PHONY: stop
stop: ## Stop the demo's Airflow and everything it started
	@if [ -x $(BIN)/groundlake ]; then $(BIN)/groundlake demo stop; else echo "nothing is installed, nothing runs"; fi

.PHONY: clean
clean: stop ## Stop, then remove the demo's lake, catalog and Airflow state; .venv stays
	@rm -rf .demo
	@if grep -qs '^lake: *"\?\.demo/' groundlake.yaml; then rm groundlake.yaml; fi

.PHONY: distclean
distclean: clean ## clean, and remove .venv, .tools and all caches too
	@rm -rf .venv .venv-reference .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: test
test: lint ## lint, then all tests; CI runs this and test-reference
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

.PHONY: reference
reference: install ## Create or update .venv-reference: upstream's own packages, to compare our engines with
	@$(BIN)/python images/locks/install_reference.py --uv "$(UV)" --torch-index "$(TORCH_INDEX)"

.PHONY: test-reference
test-reference: reference ## Our engines against upstream's packages and from its files; CI runs it too
	@$(BIN)/python -m pytest -m reference -n 0 tests/reference tests/e2e/test_upstream_checkpoints.py tests/benchmarks

.PHONY: soak
soak: install ## The long kill tests: processes killed at random, on disk and on a failing S3 (about half an hour)
	@$(BIN)/python -m pytest -m soak -n 0 -s

.PHONY: lint
lint: install ## ruff (rules and format), mypy, import layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: install ## Format the code and sort its imports
	@$(BIN)/ruff check --select I --fix .
	@$(BIN)/ruff format .

.PHONY: lock
lock: install ## Compile the locks (UPGRADE=1: newest versions that fit); needs an index
	@UV="$(or $(UV),$(CURDIR)/.tools/uv/bin/uv)" $(BIN)/python images/locks/compile.py $(if $(UPGRADE),--upgrade)

.PHONY: lock-check
lock-check: install ## Compile the locks again and compare; needs an index
	@UV="$(or $(UV),$(CURDIR)/.tools/uv/bin/uv)" $(BIN)/python images/locks/compile.py --check
