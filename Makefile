# Every target sets up what it needs in .venv: Python >= 3.11 with pip, nothing else (no conda, no GPU).
#   make demo    the main job on real input; names the report it wrote
#   make test    the default tests
#   make docs    the documentation as a site in build/site
# Variables: PYTHON=python3.12 (which interpreter makes .venv), VENV=.venv, WORKERS=2 (test processes),
#   TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu" (a smaller torch without CUDA; see docs/install.md)

VENV ?= .venv
PYTHON ?=
TORCH_ARGS ?=
SLOW ?= 0
SITE ?= mkdocs
PYTEST_ARGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# One test process per core, at most four (each loads torch); one thread in each, so that they do not fight over cores.
WORKERS ?= $(shell [ $(CORES) -gt 4 ] && echo 4 || echo $(CORES))
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 MPLBACKEND=Agg
ifeq ($(SLOW),1)
MARK := -m ""
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-slow test-all coverage lint docs install-docs test-exports install-exports benchmark clean

help:
	@echo "make demo       generate channels, adapt the shipped model to a site, evaluate, write a report (5 minutes)"
	@echo "make test       the default tests (at most 5 minutes on two cores)"
	@echo "make test-slow  only the tests marked slow;  make test-all: everything"
	@echo "make coverage   the default tests with the lines of airlam/ that they run"
	@echo "make lint       ruff, ruff format, codespell, mypy"
	@echo "make docs       the documentation as a site in build/site, every link checked (SITE=zensical: the other builder)"
	@echo "make test-exports  exports to LiteRT and TensorFlow, in environments of their own"
	@echo "make benchmark  the timings of docs/benchmarks.md on this machine"
	@echo "make install    only set up $(VENV);  make clean: remove $(VENV) and caches"

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/airlam demo

# A crashed test process ends the run: with a new one in its place, pytest-xdist would wait for ever.
# The pytest script, never `python -m pytest`: that would put this folder, and so datasets/, on sys.path.
test: $(STAMP)
	$(TEST_ENV) $(BIN)/pytest -n $(WORKERS) --dist loadfile --max-worker-restart 0 $(MARK) $(PYTEST_ARGS)

test-slow: $(STAMP)
	$(TEST_ENV) $(BIN)/pytest -n $(WORKERS) --dist loadfile --max-worker-restart 0 -m slow $(PYTEST_ARGS)

test-all:
	@$(MAKE) --no-print-directory test SLOW=1

coverage: PYTEST_ARGS += --cov
coverage: test

lint: $(STAMP)
	@failed=0; $(BIN)/ruff check . || failed=1; $(BIN)/ruff format --check . || failed=1; \
	  $(BIN)/codespell || failed=1; $(BIN)/mypy || failed=1; exit $$failed

docs: $(DOCS_STAMP)
	$(BIN)/python -P docs/site/prepare.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/$(SITE) build --clean --strict
	$(BIN)/python -P docs/site/finish.py build/site

install-docs: $(DOCS_STAMP)

# LiteRT's converter and TensorFlow do not go with the tested set of versions: an environment of its own for each
install-exports: build/venv-litert/.installed build/venv-tensorflow/.installed

test-exports: install-exports
	build/venv-litert/bin/python -m pytest -q -m "" tests/export/test_litert.py
	build/venv-tensorflow/bin/python -m pytest -q -m "" tests/export/test_tensorflow.py tests/export/test_tf_dataset.py

build/venv-litert/.installed: constraints-litert.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv build/venv-litert
	build/venv-litert/bin/python -m pip --disable-pip-version-check install --quiet --no-compile -c constraints-litert.txt torch $(TORCH_ARGS) -e ".[litert-export]" \
	  pytest hypothesis
	@touch $@

build/venv-tensorflow/.installed: constraints.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv build/venv-tensorflow
	sed 's/^tensorboard==.*/tensorboard==2.20.0/' constraints.txt > build/venv-tensorflow/constraints.txt
	build/venv-tensorflow/bin/python -m pip --disable-pip-version-check install --quiet --no-compile -c build/venv-tensorflow/constraints.txt torch $(TORCH_ARGS)
	build/venv-tensorflow/bin/python -m pip --disable-pip-version-check install --quiet --no-compile -c build/venv-tensorflow/constraints.txt \
	  -e ".[tensorflow]" pytest hypothesis
	@touch $@

benchmark: $(STAMP)
	@set -e; for script in benchmarks/*.py; do \
	  test -e "$$script" || { echo "no benchmarks/*.py here yet"; break; }; \
	  echo "== $$script"; $(BIN)/python -P "$$script"; done

clean:
	rm -rf $(VENV) build dist ./*.egg-info .pytest_cache .ruff_cache .mypy_cache
	find airlam tests -name __pycache__ -type d -exec rm -rf {} +

# torch first and alone: the constraint also takes a local CPU wheel, and TORCH_ARGS concerns nothing else.
$(STAMP): pyproject.toml setup.py constraints.txt | $(BIN)/python
	$(PIP) install --constraint constraints.txt $(TORCH_ARGS) torch
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@
	@echo "airlam is installed in $(VENV)"

$(DOCS_STAMP): $(STAMP)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $@

$(BIN)/python:
	@for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
	  "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	  echo "creating $(VENV) with $$("$$candidate" --version); then about 2 minutes and 2 GB of packages"; \
	  "$$candidate" -m venv $(VENV) && exit 0; \
	  rm -rf $(VENV); \
	  echo "error: $$candidate could not create $(VENV); on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	done; \
	echo "error: no Python >= 3.11 found (tried: $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python));" \
	  "install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1
