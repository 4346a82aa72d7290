# Everything runs in .venv, which the first target makes. `make run` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DONE   := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev
# Two at a time, file by file: most tests wait for processes that they have started (docs/decisions/0022).
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile
# What failed beside another test is run again by itself: what fails alone has failed.
AGAIN  := $(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none

.PHONY: run test test-long lint format types imports check gallery house bench chaos clean

run: $(DONE)
	$(BIN)/python run_a3c.py --workers 4

test: $(DEV)
	$(PYTEST) || $(AGAIN)

test-long: $(DEV)
	$(PYTEST) -m "long or not long" || $(AGAIN) -m "long or not long"

lint: $(DEV)
	$(BIN)/ruff check .

format: $(DEV)
	$(BIN)/ruff format .

types: $(DEV)
	$(BIN)/mypy

imports: $(DEV)
	$(BIN)/lint-imports

check: lint types imports test
	$(BIN)/ruff format --check .

gallery: $(DEV)
	$(BIN)/pip install -q -c constraints.txt -e ".[box2d,mujoco,minigrid]"
	$(BIN)/python -m benchmarks.gallery

house: $(DEV)
	$(BIN)/python -m benchmarks.house

bench: $(DEV)
	$(BIN)/python -m benchmarks

chaos: $(DEV)
	$(BIN)/python -m tests.chaos

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first and by its exact version: a range may fetch a build with gigabytes of CUDA libraries.
$(DONE): $(VENV)/bin/python setup.cfg constraints.txt
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

$(DEV): $(DONE)
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@
