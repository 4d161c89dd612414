# `make test` and `make demo` set everything up themselves on a machine with Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_DATA ?= ../shared/data/flowers17
DEMO_WEIGHTS ?= ../shared/weights/vit_tiny_patch16_224.safetensors
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
	@test -d $(DEMO_DATA) || { echo "make demo: no photographs in $(DEMO_DATA); name class folders with make demo DEMO_DATA=my_photos DEMO_WEIGHTS=tower.safetensors"; exit 2; }
	$(BIN)/mpfgvc train --config recipes/demo.yaml --data.root $(DEMO_DATA) \
		--model.image_tower.weights $(DEMO_WEIGHTS) --out runs/demo-$$(date +%Y%m%d-%H%M%S)

bench: $(READY)
	@echo "accuracy.py and stage2_share.py need photographs: see benchmarks/README.md"
	$(BIN)/python benchmarks/startup.py

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
