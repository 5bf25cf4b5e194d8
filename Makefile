# Everything a person types first. `make demo` needs no GPU, no server, no account and no model hub.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRA ?= cpu
# The CPU build of torch. For a GPU: make … EXTRA=gpu TORCH_INDEX=https://pypi.org/simple
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: demo install test slow lint load faults

demo: $(VENV)/.ready
	$(BIN)/lawful demo

install: $(VENV)/.ready

test: lint
	$(BIN)/pytest

# Whole processes interrupted, killed and doubled: minutes more. Continuous integration runs both.
slow: $(VENV)/.ready
	$(BIN)/pytest -m slow -n 2

# Three quarters of an hour, and half of one, on a machine that does nothing else.
load: $(VENV)/.ready
	$(BIN)/python -m benchmarks.load

faults: $(VENV)/.ready
	$(BIN)/python -m benchmarks.faults

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch goes first and alone, by pip: it alone comes from an index of its own, and pip only warns when that is out of
# reach. uv installs the rest five times faster than pip would.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-compile -c constraints.txt uv
	$(BIN)/pip install -q --no-compile --retries 1 --no-deps --extra-index-url $(TORCH_INDEX) -c constraints.txt torch
	$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[$(EXTRA),dev]'
	touch $@
