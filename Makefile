# make demo: adapt the embedded model to the embedded text.  make test: everything.  Both set themselves up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test quick lint setup clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e ".[test,bench]"
	touch $@

demo: setup
	$(BIN)/graft run recipes/quickstart.yaml

test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

quick: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not browser"

lint: setup
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright

clean:
	rm -rf $(VENV) .graft runs build dist
