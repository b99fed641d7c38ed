# Everything runs in .venv, made from the pinned versions of constraints.txt.
#
#   make train                      train on the embedded digits and print the score
#   make test                       all tests
#   make check                      style, types, structure
#   make bench                      the benchmarks
#   make docs                       the site of docs/, into site/
#
# Without a GPU, PyTorch's CPU build is smaller (about 200 MB against several GB):
#   make train TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
PIP_OPTIONS := --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: train test check format bench docs clean
.DEFAULT_GOAL := train

train: .venv/installed
	$(BIN)/inkproof train --data digits

test: .venv/installed-dev
	$(BIN)/pytest --numprocesses auto

check: .venv/installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: .venv/installed
	$(BIN)/python benchmarks/epoch.py
	$(BIN)/python benchmarks/opening.py

docs: .venv/installed-dev
	$(BIN)/pip install $(PIP_OPTIONS) --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Bytecode is written as pip writes it for all that it installs, but for what is editable.
.venv/installed: constraints.txt pyproject.toml hatch_build.py $(wildcard src/inkproof/kernels/*.c)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "inkproof needs Python 3.11 or newer: make PYTHON=python3.11")'
	@echo "making .venv and installing into it; the first time takes a minute or two"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(PIP_OPTIONS) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(BIN)/pip install $(PIP_OPTIONS) --editable .
	@$(BIN)/python -m compileall -q src || true
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install $(PIP_OPTIONS) --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build site
