# The front door. `make` alone lists what there is.

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.setup-done

# Any Python from 3.11 on; the default one when it is new enough.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$python" && break; done)

##@ Start
.PHONY: setup demo up
setup: $(READY) ## make the virtual environment in .venv, with the project, its client and the tools

demo: setup ## start the whole system, run real work through it, check and measure it, stop it
	$(BIN)/python examples/demo.py

up: setup ## run the whole system in the foreground until Ctrl-C
	$(BIN)/headracectl up

##@ Develop
.PHONY: test check bench chaos docs
# They start whole systems, which wait for one another: next to each other, but not next to what never waits.
WHOLE := tests/e2e tests/chaos tests/integration/api/test_api_server.py
TWO := $(BIN)/python -m pytest -n 2 --dist loadfile

test: setup ## run all tests, on real servers that they start themselves
	$(TWO) $(WHOLE:%=--ignore=%); parts=$$?; $(TWO) $(WHOLE) && exit $$parts

check: setup ## lint, formatting, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## run the benchmarks
	$(BIN)/python -m benchmarks

chaos: setup ## break whole systems in every way, SEEDS times each, and write what came of it into the docs
	$(BIN)/python -m tests.chaos --seeds $(or $(SEEDS),20) && $(BIN)/python docs/generate.py
	SPOT_LONG=1 $(BIN)/python -m pytest tests/e2e/test_spot.py

docs: setup ## run the examples in the documentation
	$(BIN)/python docs/generate.py && $(BIN)/python -m pytest tests/unit/test_docs.py tests/unit/test_compose.py

##@ Dependencies
.PHONY: lock sbom audit
TOOLS := $(VENV)/tools
LOCKS := api sender scheduler worker worker-cuda dev

lock: $(TOOLS)/.done ## write requirements/*.txt anew: what each kind of process is installed with, and the hashes
	$(TOOLS)/bin/python requirements/lock.py

sbom: $(TOOLS)/.done ## list what each kind of process consists of in dist/sbom, as CycloneDX
	@mkdir -p dist/sbom
	for lock in $(LOCKS); do $(TOOLS)/bin/cyclonedx-py requirements requirements/$$lock.txt \
		--output-reproducible -o dist/sbom/$$lock.cdx.json || exit 1; done

audit: $(TOOLS)/.done ## ask the database of advisories about every locked package
	$(TOOLS)/bin/python requirements/audit.py

$(TOOLS)/.done: $(READY) requirements/tools.txt
	$(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements/tools.txt
	@touch $@

##@ Clean up
.PHONY: clean
clean: ## remove the virtual environment and what tools left; data of `make up` stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

##@ Help
.PHONY: help
help: ## show this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): setup.cfg pyproject.toml constraints.txt clients/python/setup.cfg clients/python/pyproject.toml
	@test -n "$(PYTHON)" || { echo "Headrace needs Python 3.11 or newer: make setup PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt torch==2.13.0 \
		-e '.[torch,examples,embedded,dev]' -e clients/python
	@touch $@
