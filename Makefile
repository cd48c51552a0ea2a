# Two commands matter: `make repro` runs the pipeline, `make test` the tests. Each sets up what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Stages are run as `python`: the environment's own must come first.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup repro test defects check profile audit format ui registry rollback remote pull push lock bench

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: .venv/.runtime ## create .venv from requirements.txt

repro: .venv/.runtime ## run the pipeline: fetch to register, only what changed
	@dvc repro

test: .venv/.dev ## run the tests
	@pytest

defects: .venv/.dev ## show that the gate refuses bad changes, and lets harmless ones through
	@pytest tests/defects

check: .venv/.dev ## lint, format, types, workflows
	@ruff check .
	@ruff format --check .
	@mypy
	@zizmor --persona pedantic --offline --quiet --no-progress .github
	@rm -rf build/workflows && mkdir -p build/workflows
	@for file in .github/workflows/*; do sed '/^  queue: /d' $$file > build/workflows/$${file##*/}; done # act 0.2.89 knows no queue
	@said=$$(ACT_DISABLE_VERSION_CHECK=1 act --validate --strict --workflows build/workflows 2>&1) || { echo "$$said"; exit 1; }

profile: .venv/.runtime ## describe the prepared customers anew, for the contract to compare with
	@python -m churn.profile

audit: .venv/.dev ## look for known vulnerabilities in the locked packages
	@python .github/scripts/audit.py

format: .venv/.dev ## rewrite the code in the one format
	@ruff check --fix .
	@ruff format .

ui: .venv/.runtime ## open the registry in MLflow's web page
	@python -m churn.champion show # also finds the files of a registry that was moved
	@case "$${MLFLOW_TRACKING_URI:=sqlite:///mlflow.db}" in \
	  http*) echo "The registry has a page of its own: $$MLFLOW_TRACKING_URI" ;; \
	  *) MLFLOW_DISABLE_TELEMETRY=true mlflow ui --backend-store-uri "$$MLFLOW_TRACKING_URI" ;; esac

registry: .venv/.runtime ## show the versions in the registry, and how champion moved
	@python -m churn.champion show

rollback: .venv/.runtime ## return champion to the former version: make rollback WHY="..."
	@python -m churn.champion rollback "$$WHY"

remote: .venv/.runtime ## tell DVC its remote: DVC_REMOTE_URL, or else a folder; DVC_BRANCH_URL adds `branch`
	@mkdir -p .cache/remote && chmod 700 .cache
	@dvc remote add --quiet --local --force --default ci "$${DVC_REMOTE_URL:-$(CURDIR)/.cache/remote}"
	@dvc remote modify --quiet --local ci verify true
	@[ -z "$$DVC_BRANCH_URL" ] || { dvc remote add --quiet --local --force branch "$$DVC_BRANCH_URL" && \
	  dvc remote modify --quiet --local branch verify true; }

pull: .venv/.runtime ## take over from DVC's remote what others have made, with the run-cache
	@python .github/scripts/remote.py fetch
	@dvc checkout --quiet --allow-missing

push: .venv/.runtime ## give DVC's remote what was made here, with the run-cache
	@python .github/scripts/remote.py push

bench: .venv/.runtime ## time the pipeline beside a four-script tutorial
	@python -m benchmarks.cold_run

lock: .venv/.dev ## resolve requirements*.in into requirements*.txt, with hashes
	@for name in requirements requirements-dev; do \
	  uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	    $$name.in --output-file $$name.txt || exit 1; done

# Installed once, and again only when the lock changes.
.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Creating .venv with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv --clear .venv
	@mkdir -p .cache && chmod 700 .cache  # DVC makes a folder in it that anyone may write to
	@touch $@

.venv/.runtime: requirements.txt | .venv/.python
	@echo "Installing requirements.txt into .venv (about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

.venv/.dev: requirements-dev.txt .venv/.runtime
	@echo "Installing requirements-dev.txt into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt -r requirements-dev.txt
	@touch $@
