# Everything a person types first. `make demo` needs no GPU, no server, no account and no model hub.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRA ?= cpu
# The CPU build of torch; for a GPU: make … EXTRA=gpu TORCH_INDEX=https://pypi.org/simple
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: demo test lint

demo: $(VENV)/.ready
	$(BIN)/lawful demo

test: $(VENV)/.ready lint
	$(BIN)/pytest

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --retries 1 --no-deps --extra-index-url $(TORCH_INDEX) -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[$(EXTRA),dev]'
	touch $@
