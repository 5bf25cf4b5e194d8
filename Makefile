# Everything a person types first. `make demo` needs no GPU, no server, no account and no model hub.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRA ?= cpu
# The CPU build of torch. For a GPU: make … EXTRA=gpu TORCH_INDEX=https://pypi.org/simple
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
DIST ?= dist

.PHONY: demo install test slow load faults fuzz lint audit-packages sbom wheel

demo: $(VENV)/.ready
	$(BIN)/lawful demo

install: $(VENV)/.ready

test: lint
	$(BIN)/pytest

# Whole processes interrupted, killed and doubled: minutes more. Continuous integration runs both.
slow: $(VENV)/.ready
	$(BIN)/pytest -m slow -n 2

# Some ten minutes on two cores. A run that was cut short goes on with FUZZ='--parsers 1000000 --first N'.
FUZZ ?= --parsers 1000000 --files 200000 --http 20000
fuzz: $(VENV)/.ready
	$(BIN)/python -m benchmarks.fuzz $(FUZZ)

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
	$(BIN)/python deploy/packages/licences.py

# Weaknesses known in the pinned versions. Needs the network, so nothing else depends on it.
audit-packages: $(VENV)/.ready
	$(BIN)/python deploy/packages/vulnerabilities.py

# What is installed here, as CycloneDX 1.6; the same environment gives the same bytes.
sbom: $(VENV)/.ready
	mkdir -p $(DIST)
	$(BIN)/cyclonedx-py environment --spec-version 1.6 --output-reproducible --pyproject pyproject.toml \
	  --output-format JSON --output-file $(DIST)/sbom.json $(BIN)/python

# What is committed, dated by its commit: the same commit and pins give the same bytes.
wheel: $(VENV)/.ready
	mkdir -p $(DIST) && rm -rf $(DIST)/source && mkdir $(DIST)/source
	git archive HEAD | tar -x --no-same-permissions -C $(DIST)/source
	umask 022 && chmod -R go=u-w $(DIST)/source && SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) \
	  $(BIN)/uv build --wheel --no-build-isolation --python $(BIN)/python -o $(DIST) $(DIST)/source
	rm -rf $(DIST)/source

# torch goes first and alone, by pip: it alone comes from an index of its own, and pip only warns when that is out of
# reach. uv installs the rest five times faster than pip would.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-compile -c constraints.txt uv
	$(BIN)/pip install -q --no-compile --retries 1 --no-deps --extra-index-url $(TORCH_INDEX) -c constraints.txt torch
	$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[$(EXTRA),dev]'
	touch $@
