# make run    set up, then the main job on handwritten digits
# make test   set up, then every check: style, types, layers, tests
# make bench  speeds, as ratios measured in one run
# make reproduce   the experiments behind docs/results.md that a CPU can do: two and a half hours or so
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup run test check bench reproduce clean

help:
	@sed -n 's/^# //p' Makefile

# One virtual environment, made once; torch is big and is never installed twice.
.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/.user: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/.developer: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch .venv/.user $@

.venv/.bench: .venv/.developer
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

setup: .venv/.user

run: .venv/.user
	$(BIN)/oblivio run

check: .venv/.developer
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright

test: check
	$(BIN)/python -m pytest -n 2

bench: .venv/.bench
	$(BIN)/python -m benchmarks

reproduce: .venv/.user
	for name in digits sparse-digits fisher-digits mnist sparse-mnist fisher-mnist/class \
	  cifar10-small fisher-cifar10-small gan-digits gan-items-digits gan-ablation-digits \
	  gan-mnist-small; do \
	  $(BIN)/oblivio run $$name || exit 1; \
	done

clean:
	rm -rf .venv runs
