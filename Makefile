# Everything a person or a machine runs here. Only make, git and a CPython are needed to begin with:
# scripts/venv builds .venv on first use and again when pyproject.toml's dependencies change.
#
#   make PYTHON=python3.12 test     chooses the interpreter

SHELL := /bin/sh
PY := .venv/bin/python
export PYTHON

# `check` runs its parts in order, also under make -j: pytest's summary stays last.
.NOTPARALLEL:
.PHONY: help demo man test lint format types check bench docs manual test-all clean

help:
	@echo 'make demo      see what it does, in a few seconds'
	@echo 'make man       the manual page of the command, in build/landline.1'
	@echo 'make test      the whole test suite'
	@echo 'make lint      ruff'
	@echo 'make format    ruff, mending what it can'
	@echo 'make types     mypy --strict'
	@echo 'make check     lint, types and test: what CI runs'
	@echo 'make bench     the benchmarks'
	@echo 'make docs      the documentation site, into build/site'
	@echo 'make manual    docs/manual.md, from the code'
	@echo 'make test-all  the suite on every CPython 3.11 to 3.14 found here'
	@echo 'make clean     remove what these made'

demo:
	@scripts/venv cli
	@.venv/bin/landline demo

man:
	@scripts/venv cli
	@mkdir -p build
	@$(PY) -m landline.cli.man >build/landline.1
	@echo 'made build/landline.1; man -l shows it'

test:
	@scripts/venv dev
	@$(PY) -m pytest

lint:
	@scripts/venv dev
	@$(PY) -m ruff check

format:
	@scripts/venv dev
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

types:
	@scripts/venv dev
	@$(PY) -m mypy

check: lint types test

bench:
	@scripts/venv dev
	@$(PY) -m benchmarks

docs:
	@scripts/venv dev
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict
	@echo 'build/site/index.html'

manual:
	@scripts/venv dev
	@$(PY) scripts/manual.py

test-all:
	@scripts/test-all

clean:
	rm -rf .venv .venvs build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
