# Works on a machine with Python 3.11 or newer, git and make; everything else is installed into .venv.

VENV := .venv
RUN := $(VENV)/bin
READY := $(VENV)/.ready

# The first of these that is new enough; name another with `make PYTHON=...`
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$python" && break; done)

.DEFAULT_GOAL := help
.PHONY: help demo test lint ui sandbox docs pictures bench benchload lock clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Sync generated data from a sandbox on loopback, and show what came of it
	@$(RUN)/bdc-pipeline demo

test: $(READY) ## Run all tests
	@$(RUN)/python -m pytest -n auto -q

lint: $(READY) ## Check style and types
	@$(RUN)/ruff check . && $(RUN)/ruff format --check . && $(RUN)/mypy

ui: $(READY) ## Start Dagster's web UI and daemon; with a sandbox where no source's address is set
	@$(RUN)/bdc-pipeline ui

sandbox: $(READY) ## Serve generated data on a loopback port until Ctrl-C
	@$(RUN)/bdc-pipeline sandbox

docs: $(READY) ## Write the generated parts of the README anew
	@$(RUN)/python -m bdc_pipeline_tests.docs

pictures: $(READY) ## Take the pictures of the documents anew; needs Chromium
	@$(RUN)/python -m bdc_pipeline_tests.pictures

bench: $(READY) ## Measure the figures of the README
	@$(RUN)/python -m benchmarks.sonar

benchload: $(READY) ## Measure loading against a bare floor and other libraries; installs those into .venv-peers
	@$(RUN)/python -m benchmarks.load --json data/load.json --plot docs/load.svg

lock: $(READY) ## Pin the newest versions that fit in requirements.lock
	@$(RUN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links pyproject.toml --output-file requirements.lock

clean: ## Remove the environment and caches; data stays
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "Python 3.11 or newer is needed; the one here is $$("$(or $(PYTHON),python3)" --version 2>&1 || true)." \
			"Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; fi
	@"$(PYTHON)" -m venv --clear $(VENV) || { \
		echo "A virtual environment could not be made. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing the pinned dependencies into $(VENV); this takes a minute ..."
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)
