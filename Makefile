# Two commands matter:  make demo   and   make test

BIN := .venv/bin
PYTHON ?=

.PHONY: setup setup-tests demo test lint bench bench-check fuzz docs macos distfiles clean

setup:
	@PYTHON='$(PYTHON)' ./scripts/setup

setup-tests:
	@PYTHON='$(PYTHON)' ./scripts/setup --tests

demo: setup
	@$(BIN)/python scripts/demo.py

test: setup-tests lint
	$(BIN)/pytest -n 2   # not "python -m": the source directory would hide the installed package

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy scripts/*.py

docs: setup   # the site: build/docs/index.html; a broken link is an error
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

fuzz: setup-tests   # ten times the cases of "make test", with a seed of the day; less than five minutes
	PORTTRACE_FUZZ=10 PORTTRACE_FUZZ_SEED=$$(date +%Y%j) $(BIN)/pytest -q tests/test_fuzz.py tests/test_policy_sanitizers.py

macos: setup   # cross-compile the macOS library: build/macos/libtracelib.dylib
	$(BIN)/python scripts/macos_library.py

bench: setup   # what it costs, against comparable tools: 24 minutes on a machine that does nothing else
	$(BIN)/python bench/run.py

bench-check: setup   # instructions per call against the committed figures; needs valgrind
	$(BIN)/python bench/instructions.py --check

distfiles: setup   # make the tree's own tarballs again from their sources
	$(BIN)/python scripts/distfiles.py

clean:
	rm -rf .venv build builddir* .mypy_cache .ruff_cache .pytest_cache .hypothesis
