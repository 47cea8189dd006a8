# Two commands: `make demo` shows what bertsmith does, `make test` shows that it works. Each sets up what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/

.PHONY: help demo test test-all check format records clean
.DELETE_ON_ERROR:

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/installed  ## raw text to a working BERT and a report page, in minutes
	$(RUN)bertsmith demo

test: $(VENV)/installed-dev check  ## format, types, room rules and every test that is quick
	$(RUN)python -m pytest -n 2 --durations 10 -m 'not slow'

test-all: $(VENV)/installed-dev check  ## the same with the slow tests: what CI runs
	$(RUN)python -m pytest -n 2 --durations 10

check: $(VENV)/installed-dev  ## format, types and room rules only
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)lint-imports
	$(RUN)pyright --pythonpath $(RUN)python

format: $(VENV)/installed-dev  ## rewrite the code in the project's format
	$(RUN)ruff check --fix .
	$(RUN)ruff format .

clean:  ## remove the virtual environment and caches (never runs/)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("bertsmith needs Python 3.11 or later, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	touch $@

# Constraints pin every version; torch comes first so that its one wheel is settled before anything else is resolved.
$(VENV)/installed: $(VENV)/python pyproject.toml constraints.txt
	$(RUN)pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(RUN)pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[inspect]'
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(RUN)pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
