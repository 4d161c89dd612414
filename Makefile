# On a machine with Python 3.11 or later and make, each target sets up what it needs in .venv first.
#
#   make demo     trains on synthetic birds, draws an explanation, prints the result beside baselines,
#                 and how to open its page
#   make test     before a commit, 6 minutes on two cores: lint, types, import rules, and the tests that are
#                 quick; they train, resume, predict, export, serve and open a page
#   make test-all what CI runs, 20 minutes: the same and the slow tests: kills, several processes and hosts,
#                 Ray, every page in Chromium, real photographs; plain `pytest` runs these tests, too
#   make check    lint, types and import rules
#   make fmt      formats the code
#   make bench    all speed benchmarks, and their table in benchmarks/README.md
#   make docs     the documentation site, in build/site
#   make clean    removes .venv, runs/ and caches
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_RUN := runs/demo-$(shell date +%Y%m%d-%H%M%S)
# Two test processes; the one that is done first takes over tests of the other. They share trained runs on disk.
TEST_OPTIONS ?= -n 2 --dist worksteal
QUICK := not slow and not browser and not ray and not gpu

.PHONY: demo test test-all check fmt bench docs clean

test: check
	$(BIN)/pytest $(TEST_OPTIONS) -m "$(QUICK)"

test-all: check
	$(BIN)/pytest $(TEST_OPTIONS)

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
