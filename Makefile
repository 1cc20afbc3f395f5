# `make help` lists the targets. An environment that is up to date is left alone: its stamp file is
# named after the content of the files below, so neither a second call nor a new checkout installs again.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
PORT ?= 8866
WORKERS ?= 2

SHELL := /bin/bash
BIN := $(VENV)/bin
KEY := $(shell cat settings.ini setup.py pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
RUNTIME := $(VENV)/.runtime-$(KEY)
LAB := $(VENV)/.lab-$(KEY)
DEV := $(VENV)/.dev-$(KEY)

# pip, without a question. The large downloads are shown as they come; all else goes to a log whose end is shown on failure.
LOG := $(VENV)/install.log
SHOW := awk '/^ *Downloading .*[MG]B\)/ {print "  " $$2, $$3, $$4; fflush()} /^Installing coll/ {print "  unpacking"; fflush()}'
INSTALL = set -o pipefail; $(BIN)/python -m pip install --no-input --disable-pip-version-check --progress-bar off -c constraints.txt \
	  -e '.$(1)' 2>&1 | tee $(LOG) | $(SHOW) || { grep -v '^WARNING' $(LOG) | tail -n 20; echo "The installation failed; all of it is in $(LOG)."; exit 1; }

.PHONY: help demo test lint env lab app docs bench readme prepare
.DEFAULT_GOAL := help

help:
	@echo "make demo     the whole job on drawn faces; ends with the path of its report (ARGS='--seed 1' adds options)"
	@echo "make test     every notebook, then pytest, in $(WORKERS) processes"
	@echo "make lint     the style of notebooks, tests and tools (ruff)"
	@echo "make lab      JupyterLab, opened on the notebooks"
	@echo "make app      the notebooks of nbs/explore as pages without code (Voila); prints their address"
	@echo "make docs     every notebook as a page, in _docs/index.html"
	@echo "make bench    training speed against a plain loop, as a table"
	@echo "make prepare  after an edit: export the modules, clean the notebooks, write README.md"
	@echo "make readme   write README.md from nbs/index.ipynb"
	@echo "make env      only the environment of 'make test'"
	@echo "Variables: PYTHON=$(PYTHON) (3.11 to 3.13), VENV=$(VENV), PORT=$(PORT) of 'make app', WORKERS=$(WORKERS) of 'make test'"

demo: $(RUNTIME)
	@$(BIN)/fer-synth demo $(ARGS)

# pytest runs the tour, in JupyterLab or, where there is no browser, in a kernel alone.
test: $(DEV)
	$(BIN)/ruff check --quiet
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers $(WORKERS) --timing --skip_file_glob tour.ipynb
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check $(ARGS)

env: $(DEV)

# The whole repository, so that a terminal in JupyterLab stands where README's commands are typed, and pictures and reports can be opened.
lab: $(LAB)
	$(BIN)/jupyter lab --ServerApp.root_dir='$(CURDIR)' --LabApp.default_url=/lab/tree/nbs/explore $(ARGS)

# Only this machine can reach the pages, and only with the token in the address.
APP := --no-browser --Voila.ip=127.0.0.1 --Voila.port_retries=0 --token --classic_tree=True --strip_sources=True
app: $(LAB)
	$(BIN)/voila nbs/explore $(APP) --port=$(PORT) $(ARGS)

docs: $(DEV)
	$(BIN)/python tools/docs.py $(ARGS)

bench: $(RUNTIME)
	$(BIN)/python tools/bench.py $(ARGS)

prepare: $(DEV)
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python tools/readme.py

readme: $(DEV)
	$(BIN)/python tools/readme.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed, and '$(PYTHON)' is not one of them ($$($(PYTHON) --version 2>&1 | tail -1))." \
	       "Name the one to use: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON)' cannot make a virtual environment; on Debian or Ubuntu: apt install python3-venv"; exit 1; }

$(RUNTIME): | $(BIN)/python
	@echo "Installing into $(VENV), once; PyTorch is large, so this takes minutes."
	@$(call INSTALL,)
	@rm -f $(VENV)/.runtime-* && touch $@

$(LAB): | $(BIN)/python
	@echo "Installing JupyterLab into $(VENV), once."
	@$(call INSTALL,[lab])
	@rm -f $(VENV)/.lab-* $(VENV)/.runtime-* && touch $@ $(RUNTIME)

$(DEV): | $(BIN)/python
	@echo "Installing the development environment into $(VENV), once; this takes minutes."
	@$(call INSTALL,[dev])
	@rm -f $(VENV)/.dev-* $(VENV)/.lab-* $(VENV)/.runtime-* && touch $@ $(LAB) $(RUNTIME)
