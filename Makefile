PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.qexp-installed

.PHONY: help setup train test test-quick test-slow lowest bench faults mutate docs figures check format clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1|/' | column -t -s '|'

setup: $(READY)  ## make the virtual environment ($(VENV)) and install qexp with its dependencies

$(READY): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "qexp needs Python 3.11 or newer; $(PYTHON) is $$("$(PYTHON)" --version). Name one: make PYTHON=/path/to/python3.11"; exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"
	"$(BIN)/pip" install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@echo "qexp is in $(BIN); '. $(BIN)/activate' puts it on the path"
	@touch $@

train: $(READY)  ## train a ResNet-18 to 2 bits with DAQ on the embedded digits
	"$(BIN)/qexp" train quantizer=daq bits=2

test: $(READY)  ## run the tests; ARGS="tests/engine -n 0" as for pytest
	"$(BIN)/python" -m pytest $(ARGS)

test-quick: $(READY)  ## run those that train nothing, start no process and try few inputs, for every save
	"$(BIN)/python" -m pytest -m "not slow and not gpu and not network and not process and not training and not thorough" $(ARGS)

test-slow: $(READY)  ## run the long tests too; QEXP_DATA names the folder with real data
	"$(BIN)/python" -m pytest -m "not gpu and not network" $(ARGS)

lowest:  ## run the tests with the lowest versions of .ci/lowest.txt, in an environment of their own
	"$(PYTHON)" -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check --constraint .ci/lowest.txt --editable '.[dev]'
	.venv-lowest/bin/python -m pytest $(ARGS)

bench: $(READY)  ## measure speed and memory beside their goals, about 15 minutes; leave the machine alone meanwhile
	"$(BIN)/python" scripts/bench $(ARGS)

faults: $(READY)  ## kill, fill up, damage and misspell, and count what is lost, three quarters of an hour
	"$(BIN)/python" scripts/faults $(ARGS)

mutate: $(READY)  ## plant known mistakes one at a time, and see that the tests catch every one, half an hour
	"$(BIN)/python" scripts/mutate.py $(ARGS)

docs: $(READY)  ## write docs/configuration.md from the YAML files in conf/
	"$(BIN)/python" scripts/configuration.py

figures: $(READY)  ## draw the figures of docs/ again; ARGS="--check" only compares
	"$(BIN)/python" scripts/figures.py $(ARGS)

check: $(READY)  ## formatting, lint, types
	"$(BIN)/ruff" format --check .
	"$(BIN)/ruff" check .
	"$(BIN)/mypy"

format: $(READY)  ## format the code
	"$(BIN)/ruff" format .
	"$(BIN)/ruff" check --fix .

clean:  ## remove the virtual environment and caches; runs stay
	rm -rf "$(VENV)" .pytest_cache .ruff_cache .mypy_cache
