# Two commands matter:  make demo   and   make test

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: setup demo test lint clean

setup:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check '.[test]'

test: setup
	$(BIN)/pytest -n 2   # not "python -m": the source directory would hide the installed package

lint:
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:
	rm -rf $(VENV) build builddir*
