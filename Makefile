# Two commands matter: `make repro` runs the pipeline, `make test` the tests. Each sets up what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Stages are run as `python`: the environment's own must come first. Programs are run as `python -m` where they are
# Python's: their scripts in .venv/bin hold the path of the checkout, which may have moved or have a quote in it.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# uv leaves compiling to the first import. If nothing kept the result, every stage would compile its libraries again.
unexport PYTHONDONTWRITEBYTECODE

# The driver of a warehouse, the library of an estimator and Dask are no part of requirements.txt: params.yaml names them, as in
# source: snowflake://…, estimator: xgboost.XGBClassifier and engine: dask; init reads SOURCE, too
EXTRA := $(patsubst requirements-%.txt,.venv/.extra-%,$(wildcard $(shell \
  sed -nE 's%^ *(source: *["'\'']?([a-z]*)://|estimator: *["'\'']?([a-z]*)\.|engine: *["'\'']?([a-z]*)).*%requirements-\2\3\4.txt%p' params.yaml 2> /dev/null) \
  $(if $(findstring ://,$(SOURCE)),requirements-$(firstword $(subst ://, ,$(SOURCE))).txt)))

# The page of `dvc plots`, with vega inside; a folder without DVC needs none.
PLOTS := $(patsubst .dvc/config,.venv/.plots,$(wildcard .dvc/config))

.PHONY: help setup init repro resolve test quick defects check profile bounds audit format report ui registry rollback remote pull push lock bench

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: .venv/.runtime $(PLOTS) $(EXTRA) ## create .venv from requirements.txt

init: .venv/.runtime $(EXTRA) ## put your own table in the place of the sample: make init SOURCE=data/customers.csv
	@python -m churn init $(if $(SOURCE),'$(SOURCE)',--help) $(OPTIONS)

repro: .venv/.runtime $(PLOTS) $(EXTRA) ## run the pipeline: fetch to register, only what changed
	@! grep -qs '^<<<<<<< ' dvc.lock || { echo "dvc.lock has a merge conflict: run \`make resolve\` first." >&2; exit 1; }
	@python -m dvc repro

resolve: .venv/.runtime ## after a merge conflict in dvc.lock, metrics or plots: keep one side, to run the pipeline on
	@python -m churn lock resolve

test: .venv/.dev ## run the tests, and print their branch coverage
	@python -m pytest --cov

quick: .venv/.dev ## run the tests that a pull request runs: those that take little time
	@python -m pytest --dist worksteal tests/unit $(wildcard tests/own) tests/pipeline/test_graph.py tests/pipeline/test_imports.py \
	  tests/workflows/test_rules.py tests/report/test_judge.py tests/report/test_state.py tests/report/test_render.py

defects: .venv/.dev ## show that the gate refuses bad changes, and lets harmless ones through
	@python -m pytest tests/defects

check: .venv/.dev ## lint, format, types, workflows
	@ruff check .
	@ruff format --check .
	@python -m mypy
	@zizmor --persona pedantic --offline --quiet --no-progress .github
	@rm -rf build/workflows && mkdir -p build/workflows
	@for file in .github/workflows/*; do sed '/^  queue: /d' $$file > build/workflows/$${file##*/}; done # act 0.2.89 knows no queue
	@said=$$(ACT_DISABLE_VERSION_CHECK=1 act --validate --strict --workflows build/workflows 2>&1) || { echo "$$said"; exit 1; }

profile: .venv/.runtime ## describe the prepared customers in profile.json, which validate compares with
	@python -m churn profile

bounds: .venv/.runtime ## measure the noise of your customers, and write the gate's bounds into params.yaml
	@python -m churn bounds

audit: .venv/.dev ## look for known vulnerabilities in the locked packages
	@python -m ci.audit

format: .venv/.dev ## rewrite the code in the one format
	@ruff check --fix .
	@ruff format .

report: .venv/.runtime ## judge this checkout against main, or make report BASE=HEAD, and write build/report/report.html
	@python -m report $(if $(BASE),--base '$(BASE)')

ui: .venv/.runtime ## open the registry in MLflow's web page
	@python -m churn registry show # also finds the files of a registry that was moved
	@case "$${MLFLOW_TRACKING_URI:=sqlite:///mlflow.db}" in \
	  http*) echo "The registry has a page of its own: $$(sed 's%//[^/]*@%//%' <<< "$$MLFLOW_TRACKING_URI")" ;; \
	  *) MLFLOW_DISABLE_TELEMETRY=true python -m mlflow ui --backend-store-uri "$$MLFLOW_TRACKING_URI" ;; esac

registry: .venv/.runtime ## show the versions in the registry, and how champion moved
	@python -m churn registry show

rollback: .venv/.runtime ## return champion to the former version: make rollback WHY="..."
	@python -m churn registry rollback "$$WHY"

remote: .venv/.runtime ## tell DVC its remote: DVC_REMOTE_URL, or else a folder; DVC_BRANCH_URL adds `branch`
	@mkdir -p .cache/remote && chmod 700 .cache
	@python -m ci.remote set

pull: .venv/.runtime ## take over from DVC's remote what others have made, with the run-cache
	@python -m ci.remote fetch
	@python -m dvc checkout --quiet --allow-missing

push: .venv/.runtime ## give DVC's remote what was made here, with the run-cache
	@python -m ci.remote push

bench: .venv/.runtime $(if $(ALL),.venv/.extra-lightgbm .venv/.extra-xgboost) ## renew docs/benchmarks.md in a quarter of an hour; make bench ALL=1 takes 75 minutes, and installs frameworks
	@python -m benchmarks.stages --record
	@python -m benchmarks.comparison --record
	@python -m benchmarks.validation --record
	@python -m benchmarks.merge --record
	@python -m benchmarks.pipelines --record $(if $(ALL),,--rounds 1 --only 'dvc repro' tutorial 'tutorial, Make')
	@python -m benchmarks.report --record
	@python -m benchmarks.first_run --record
ifdef ALL
	@python -m benchmarks.pipelines --record --rounds 1 --rows 1000000 --only 'dvc repro' Kedro ZenML Metaflow Prefect Dagster
	@python -m benchmarks.merge --record --rows 1000000
	@python -m benchmarks.validation --record 10000000
	@python -m benchmarks.scale --record 1000000 --estimator sklearn lightgbm xgboost
	@python -m benchmarks.scale --record 10000000 --estimator sklearn lightgbm xgboost:2GB
endif

lock: .venv/.dev ## resolve requirements*.in into requirements*.txt, with hashes
	@for name in requirements-uv requirements requirements-snowflake requirements-bigquery requirements-lightgbm \
	  requirements-xgboost requirements-dask requirements-dev; do \
	  uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	    $$name.in --output-file $$name.txt || exit 1; done

# uv installs the lock several times as fast as pip. uv reads UV_DEFAULT_INDEX and not pip's settings, so pip takes over where
# uv is not available or fails, for example because only pip knows the company's index. Both check every hash.
# pip is that of the Python that made .venv. ensurepip takes six seconds, and runs only where that Python has no pip with --python.
MAKER = "$$(readlink -f $(BIN)/python)"
PIP = $$([ -e $(BIN)/pip ] && echo $(BIN)/python -m pip || echo $(MAKER) -m pip --python $(BIN)/python) \
  install --quiet --disable-pip-version-check --require-hashes
UV := UV_SYSTEM_CERTS=true UV_PYTHON_DOWNLOADS=never $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --require-hashes
install = { $(PIP) --only-binary :all: -r requirements-uv.txt && $(UV) $(1); } || \
  { echo "uv could not install $(lastword $(1)), for the reason above: pip installs it, in a minute or two ..." >&2; $(PIP) $(1); }

# Installed once, and again only when the lock changes.
.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Creating .venv with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv --clear --without-pip .venv
	@$(MAKER) -c 'import pip; raise SystemExit(pip.__version__ < "22.3")' 2> /dev/null || $(BIN)/python -m ensurepip --default-pip > /dev/null
	@touch $@

# Run by every Python of the environment when it starts, also by .venv/bin/dvc where the environment is not active:
# DVC's site cache, by default a folder that anyone may write to, is one of the environment's, and `python` is its own.
.venv/.startup: export STARTUP := import os, sys; \
  os.environ.setdefault("DVC_SITE_CACHE_DIR", os.path.join(sys.prefix, "dvc")); \
  own, given = os.path.join(sys.prefix, "bin"), os.environ.get("PATH", os.defpath); \
  os.environ["PATH"] = given if given.split(os.pathsep)[0] == own else own + os.pathsep + given
.venv/.startup: | .venv/.python
	@mkdir -p .venv/dvc/repo && chmod 700 .venv/dvc .venv/dvc/repo # else DVC makes both with mode 777
	@echo "$$STARTUP" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/churn.pth"
	@touch $@

.venv/.runtime: requirements.txt requirements-uv.txt | .venv/.python .venv/.startup
	@echo "Installing requirements.txt into .venv (some seconds) ..."
	@$(call install,-r requirements.txt)
	@touch $@

.venv/.plots: .venv/.runtime
	@$(BIN)/python -m report.plots_page
	@touch $@

.venv/.extra-%: requirements-%.txt .venv/.runtime
	@echo "Installing $< into .venv, because params.yaml or SOURCE names $* ..."
	@$(call install,-r requirements.txt -r $<)
	@touch $@

.venv/.dev: requirements-dev.txt .venv/.runtime
	@echo "Installing requirements-dev.txt into .venv ..."
	@$(call install,-r requirements.txt -r requirements-dev.txt)
	@touch $@
