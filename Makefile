# Two commands are all a newcomer needs: `make demo` and `make test`. Both set up everything themselves, into .venv.
# Each step of the setup leaves a stamp, so a second call is quick and a call that was cut off resumes.
#
#   PYTHON=python3.12 make test       another interpreter (3.11 or newer)
#   TORCH_INDEX=https://...  ALLOW_CUDA=1   where torch comes from (scripts/install_torch.py)

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PYTEST_ARGS ?=
# One more than there are cores: some tests wait for processes, servers and the disk.
TEST_WORKERS ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() + 1)')
COVERAGE ?=
NAME ?=
SEED ?= 0
# Where an environment forbids it, each of the tests' processes (some eighty) compiles 600 modules anew.
unexport PYTHONDONTWRITEBYTECODE

export TORCH_INDEX ALLOW_CUDA TORCH_VERSION
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Weights and data that are fetched before the tests and the demo start, so that neither needs the network later.
TEST_MODELS := minilm smollm2-135m qwen2.5-coder-0.5b amazon-snippets
DEMO_MODELS := minilm qwen2.5-coder-0.5b amazon-snippets

.PHONY: help
help:  ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# --- setup ------------------------------------------------------------------------------------------------------

$(VENV)/.stamp-venv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: PYTHON=/path/to/python3.11 make ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module (on Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || \
	  { echo "[venv] creating $(VENV) with $(PYTHON)"; $(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.stamp-torch: $(VENV)/.stamp-venv scripts/install_torch.py
	$(BIN)/python scripts/install_torch.py
	@touch $@

$(VENV)/.stamp-all: $(VENV)/.stamp-torch pyproject.toml
	$(BIN)/python -m pip install --progress-bar off -e ".[all]"
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-all pyproject.toml
	$(BIN)/python -m pip install --progress-bar off -e ".[all,onnx]" --group dev
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-dev pyproject.toml
	$(BIN)/python -m pip install --progress-bar off --group docs
	@touch $@

.PHONY: install weights demo-weights
install: $(VENV)/.stamp-dev  ## Set up .venv with everything a developer needs
	@:

weights: $(VENV)/.stamp-all  ## Fetch the weights and data that the tests use (about 680 MB, once)
	$(BIN)/dsplus models pull $(TEST_MODELS)

demo-weights: $(VENV)/.stamp-all
	@$(BIN)/dsplus models pull $(DEMO_MODELS)

# --- what people run --------------------------------------------------------------------------------------------

.PHONY: demo demo-large test test-fast
demo: $(VENV)/.stamp-all demo-weights  ## Real reviews, a small model and a real local LLM; no key needed
	$(BIN)/dsplus demo

demo-large: $(VENV)/.stamp-all  ## The same with the 1.5B model (1.1 GB more; about three times as long)
	@$(BIN)/dsplus models pull $(DEMO_MODELS) qwen2.5-coder-1.5b
	$(BIN)/dsplus demo --large

# Tests with a language model come second, a file to a core, in the order of the folders: the long ones stand first.
test: $(VENV)/.stamp-dev weights  ## All tests; COVERAGE=1 prints what they cover, and takes a quarter longer
	@start=$$(date +%s); $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m "not llm" $(if $(COVERAGE),--cov --cov-report=) $(PYTEST_ARGS); \
	  code=$$?; test $$code = 0 -o $$code = 5 || { echo "make test: $$(( $$(date +%s) - start )) s"; exit $$code; }; \
	  echo "make test: $$(( $$(date +%s) - start )) s until here; now those with a language model"; \
	  $(BIN)/python -m pytest -n $$(( $(TEST_WORKERS) < 5 ? $(TEST_WORKERS) - 1 : 4 )) --dist loadfile --no-loadscope-reorder -m llm \
    $$(grep -rl --include='*.py' mark.llm tests | sort) $(if $(COVERAGE),--cov --cov-append --cov-report=term:skip-covered) $(PYTEST_ARGS); \
	  code=$$?; test $$code = 5 && code=0; echo "make test: $$(( $$(date +%s) - start )) s"; exit $$code

test-fast: $(VENV)/.stamp-dev  ## Tests that need no language model
	@start=$$(date +%s); $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m "not llm" $(PYTEST_ARGS); code=$$?; \
	  echo "make test-fast: $$(( $$(date +%s) - start )) s"; exit $$code

# --- quality ----------------------------------------------------------------------------------------------------

.PHONY: lint format typecheck notebooks wheel docs
lint: $(VENV)/.stamp-dev  ## ruff check and format --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.stamp-dev  ## Format and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

typecheck: $(VENV)/.stamp-dev  ## mypy --strict
	$(BIN)/mypy

notebooks: $(VENV)/.stamp-dev demo-weights  ## Execute every notebook of cookbook/, headless
	$(BIN)/python scripts/run_notebooks.py cookbook

wheel: $(VENV)/.stamp-dev  ## Build the wheel and use it in a clean environment, without extras
	rm -rf dist build
	$(BIN)/python -m build --wheel --outdir dist .
	$(BIN)/python -m venv build/venv
	build/venv/bin/python -m pip install --quiet --progress-bar off dist/*.whl
	build/venv/bin/python -I scripts/smoke_wheel.py

docs: $(VENV)/.stamp-docs  ## Build the documentation into site/, warnings and dead links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.PHONY: audit faults
audit: $(VENV)/.stamp-dev  ## Known weaknesses of the packages in .venv (needs the network; skips without)
	@$(BIN)/python scripts/audit.py

faults: $(VENV)/.stamp-dev  ## Every fault of a provider on every way of asking, and 500 kills of writers (about 15 minutes)
	$(BIN)/python -m benchmarks faults --seed $(SEED)

# --- figures ----------------------------------------------------------------------------------------------------

.PHONY: bench figures
bench: $(VENV)/.stamp-dev  ## Run benchmarks: all, or NAME=replay; ARGS=--quick
	@for name in $(or $(NAME),$$($(BIN)/python -m benchmarks --names)); do \
	  $(BIN)/python -m benchmarks $$name --seed $(SEED) $(ARGS) || exit 1; done

paper: $(VENV)/.stamp-dev weights  ## The paper's experiments, nine of ten (LoRA: NAME=paper_lora); about 84 minutes
	$(BIN)/python -m pip install -q --group bench
	@start=$$(date +%s); for name in chaosnli longtail ablation shunts captions entropy sentiment threshold transfer; do \
	  before=$$(date +%s); $(BIN)/python -m benchmarks paper_$$name --seed $(SEED) $(ARGS) || exit 1; \
	  took="$$took$$name $$(( $$(date +%s) - before )) s, "; done; \
	  echo "make paper: $${took}together $$(( $$(date +%s) - start )) s"

figures: $(VENV)/.stamp-dev  ## Write the tables of the READMEs from benchmarks/results
	$(BIN)/python -m benchmarks.figures

.PHONY: clean
clean:  ## Remove the environment and everything built
	rm -rf $(VENV) build dist site htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-output
