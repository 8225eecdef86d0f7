PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo loop test lab lint lock clean
.DEFAULT_GOAL := help

help:  ## What can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@if git rev-parse --git-dir >/dev/null 2>&1; then \
	  git config filter.nbstripout.clean "$(BIN)/nbstripout --keep-id"; \
	  git config filter.nbstripout.smudge cat; fi
	touch $(STAMP)

demo: $(STAMP)  ## The main job on the flights: as of July 2013, the seven notebooks, and where to look
	$(BIN)/mlops run --note "make demo"

loop: $(STAMP)  ## The flights' July to September, lived day by day: scored, watched, retrained; needs the demo's model
	@test -e .mlops/mlops.db || $(MAKE) demo
	$(BIN)/mlops watch --since 2013-07-01 --until 2013-10-01 --fast

test: $(STAMP)  ## All tests, on two cores; what is skipped is said at the end
	@tools/browser
	$(BIN)/python -m pytest -q -rsfE -n 2

lab: $(STAMP)  ## JupyterLab on the project
	$(BIN)/mlops lab

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy mlops_kit

lock: $(STAMP)  ## requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet pyproject.toml --extra dev --upgrade --no-emit-index-url --no-header --python-version 3.11 -o requirements.lock

clean:  ## Remove the environment and what runs have made
	rm -rf $(VENV) .mlops .pytest_cache .mypy_cache .ruff_cache build dist
	find reports -mindepth 1 ! -name README.md -delete
