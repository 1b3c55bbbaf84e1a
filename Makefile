# make demo: adapt the embedded model to the embedded text.  make test: every check.  Both set themselves up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet -c constraints.txt

# Waiting threads sleep: on a shared machine spinning ones take the time from each other.
export OMP_WAIT_POLICY ?= PASSIVE

# Tests run in as many processes as there are processors; files stay together, so that they share what they make.
WORKERS ?= logical
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --no-loadscope-reorder

.PHONY: demo test quick lint suite clean

demo: $(VENV)/.installed
	$(BIN)/graft run recipes/quickstart.yaml

test: $(VENV)/.installed-for-tests
	$(MAKE) --no-print-directory --jobs 2 lint suite

suite: $(VENV)/.installed-for-tests
	$(PYTEST)

quick: $(VENV)/.installed-for-tests
	$(PYTEST) -m "not slow and not browser"

lint: $(VENV)/.installed-for-tests
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright --pythonpath $(BIN)/python

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Graft needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.installed-for-tests: $(VENV)/.installed
	$(PIP) -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) .graft runs build dist
