# `make test` and `make demo` set everything up themselves on a machine with Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_RUN := runs/demo-$(shell date +%Y%m%d-%H%M%S)
# One process each on two cores, and no fight between torch's threads over them.
TEST_OPTIONS ?= -n 2

.PHONY: demo test check fmt bench clean

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
	$(BIN)/python benchmarks/demo.py $(DEMO_RUN)

bench: $(READY)
	$(BIN)/python benchmarks/everything.py

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
