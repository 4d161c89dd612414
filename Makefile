# On a machine with Python 3.11 or later and make, each target sets up what it needs in .venv first.
#
#   make demo     trains on synthetic birds, draws an explanation, prints the result beside baselines,
#                 and how to open its page
#   make test     lint, types, import rules and all CPU tests
#   make check    the same without the tests
#   make fmt      formats the code
#   make bench    all speed benchmarks, and their table in benchmarks/README.md
#   make docs     the documentation site, in build/site
#   make clean    removes .venv, runs/ and caches
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_RUN := runs/demo-$(shell date +%Y%m%d-%H%M%S)
# Two test processes with one thread each, so that they do not compete for two cores.
TEST_OPTIONS ?= -n 2

.PHONY: demo test check fmt bench docs clean

test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest $(TEST_OPTIONS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(READY)
	$(BIN)/mpfgvc train --out $(DEMO_RUN)
	$(BIN)/mpfgvc explain $(DEMO_RUN) --out $(DEMO_RUN)/why.png
	$(BIN)/mpfgvc embed $(DEMO_RUN)
	$(BIN)/python benchmarks/demo.py $(DEMO_RUN)

bench: $(READY)
	$(BIN)/python benchmarks/everything.py

docs: $(READY)
	$(BIN)/python docs/build.py
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build runs .mypy_cache .ruff_cache .pytest_cache

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
