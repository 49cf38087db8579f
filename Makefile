# Thin: the work is done by init/local (python3 -m init.local).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What you may set. No value is ever read as code: `value` keeps make from reading it, and recipes take it, quoted, from
# the environment, so that the shell does not read it either.
override SETTINGS := PYTHON STUDY TRIALS REPLACED DAYS UI_PORT CASES RUNS SEEDS ONLY RESULTS WHAT
$(foreach name,$(SETTINGS),$(if $(filter-out undefined,$(origin $(name))),$(eval override $(name) := $$(value $(name)))))

# The first Python that is new enough; PYTHON=/path/to/python overrides.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
endif
override RUN_PYTHON = $(if $(PYTHON),,$(error Python 3.11 or later is needed and none is on PATH: install python3.11 or \
	set PYTHON=))"$$PYTHON"
override LOCAL = $(RUN_PYTHON) -m init.local

STUDY ?= diabetes
TRIALS ?=
# Of `make restore`: which of the replaced studies, by default the one that was replaced last.
REPLACED ?=
# Of `make tidy`: what is older goes.
DAYS ?= 30
# Of Airflow's web pages; a free one is taken where somebody else has it.
UI_PORT ?= 8080
# Of the benchmark: which cases, how often each contender runs, with how many seeds the long searches of case d run,
# which contenders (all), and where the numbers go.
CASES ?=
RUNS ?= 3
SEEDS ?= 3
ONLY ?=
RESULTS ?= benchmarks/results/latest.json
# Of `make test-debian13`: what make does there, targets and settings.
WHAT ?= run
export $(SETTINGS)

override AIRFLOW_ENV := .state/envs/airflow/bin
override SPARK_ENV := .state/envs/spark/bin

.PHONY: dist docs studies study-url finish mlflow-sync reference restore tidy test-matrix bench bench-gpu test-gpu help run ui check-studies screenshots setup stop clean test test-quick test-debian13 lint lock pack compose-env compose-digests test-compose databricks-job test-databricks licenses audit attacks

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { name[++n] = $$1; text[n] = $$2; if (length($$1) > wide) wide = length($$1) } \
		END { for (i = 1; i <= n; i++) printf "make %-" wide "s  %s\n", name[i], text[i] }' Makefile

run: ## tune a study: STUDY=diabetes TRIALS=100 (installs and starts what is missing)
	@$(LOCAL) run --study "$$STUDY" --trials "$$TRIALS"

ui: ## start Airflow's web pages and scheduler, MySQL and Spark, and print address and login
	@$(LOCAL) ui --port "$$UI_PORT"

check-studies: ## read all study files, import their own objectives, name what is wrong, start nothing
	@$(LOCAL) setup
	@AIRFLOW_HOME="$$PWD/.state/airflow" AIRFLOW__CORE__LOAD_EXAMPLES=False PYTHONPATH=jobs:plugins \
		$(AIRFLOW_ENV)/python -m tuning_pipeline.dag.check dags/studies $(SPARK_ENV)/python

studies: ## list the studies: trials, best value, size, last trial
	@$(LOCAL) studies

study-url: ## print the storage URL of STUDY, with its password: export OPTUNA_STORAGE="$(make -s study-url)"
	@$(LOCAL) study-url --study "$$STUDY"

finish: ## tell the run that works on STUDY to finish early: its running trials end, and it exports what it has
	@$(LOCAL) finish --study "$$STUDY"

mlflow-sync: ## write to MLflow what it lacks of STUDY's trials, each exactly once (docs/mlflow.md)
	@$(LOCAL) mlflow-sync --study "$$STUDY"

restore: ## bring back a study that mode reset replaced: STUDY=diabetes (REPLACED=name, by default the newest)
	@$(LOCAL) restore --study "$$STUDY" --replaced "$$REPLACED"

tidy: ## remove Airflow's rows and logs of runs that are older than DAYS=30 days; studies and exports stay
	@$(LOCAL) tidy --days "$$DAYS"

reference: ## write docs/study_file.md and the annotated study anew from the keys' declarations
	@$(LOCAL) setup
	@AIRFLOW_HOME="$$PWD/.state/airflow" PYTHONPATH=jobs:plugins $(AIRFLOW_ENV)/python -m tuning_pipeline.reference .

screenshots: ## take the README's pictures anew: a real run in a real browser (chromium, chromium-driver)
	@$(LOCAL) setup --tests
	@init/local/screenshots.sh

setup: ## install everything, start nothing
	@$(LOCAL) setup

stop: ## stop every process this checkout started
	@$(LOCAL) stop

clean: ## stop, and remove .state with its environments and databases (exports stay)
	@$(LOCAL) clean

test: ## lint, then every test against real MySQL, Spark and Airflow (installs what they need, a browser as well)
	@$(LOCAL) setup --tests
	@init/local/test.sh

test-quick: ## only the tests that start no Airflow, no Spark and no installation
	@$(LOCAL) setup --dev
	@init/local/test-part.sh quick

attacks: ## only the tests that attack, and the table of what was tried and what held (SECURITY.md)
	@$(LOCAL) setup --tests
	@init/local/test.sh attacks

test-compose: ## docker compose up on an engine of its own (docker.io, docker-compose, debootstrap; root; about 15 min)
	@$(LOCAL) setup --dev
	@TEST_COMPOSE=1 $(AIRFLOW_ENV)/python -m pytest tests/compose

test-debian13: ## `make run` on a bare Debian 13 with Python 3.13 (root, debootstrap; about 10 min): WHAT="run test-quick"
	@$(RUN_PYTHON) -m tests.support.debian_machine "$$WHAT"

test-matrix: ## whatever operators do with runs, on a real Airflow: the whole matrix of docs/runs.md (a quarter of an hour)
	@$(LOCAL) setup --tests
	@init/local/test-part.sh matrix

test-databricks: ## only the tests of target databricks
	@$(LOCAL) setup --dev
	@init/local/test-part.sh databricks

bench: ## measure the engine beside its peers, about 2 hours: CASES=a,c RUNS=3 SEEDS=3 (installs the peers, 1.6 GB)
	@$(LOCAL) setup --bench
	@TUNING_SPARK_ENV="$$PWD/.state/envs/spark" PYTHONPATH=jobs \
		$(SPARK_ENV)/python -m benchmarks --cases "$$CASES" --runs "$$RUNS" \
		--seeds "$$SEEDS" --only "$$ONLY" --results "$$RESULTS"

bench-gpu: ## the same question to NVIDIA GPUs: 1, 2, 4 and 8 trials at once on a big table, against the CPU
	@$(LOCAL) setup
	@PYTHONPATH=jobs $(SPARK_ENV)/python -m benchmarks.gpu

test-gpu: ## what only a machine with an NVIDIA GPU can test
	@$(LOCAL) setup --dev
	@$(SPARK_ENV)/python -m pytest tests/gpu

lint: ## ruff, mypy, shellcheck and hadolint
	@$(LOCAL) setup --dev
	@init/local/lint.sh

licenses: ## list the licence of every package in both environments; one that is not permissive fails
	@$(LOCAL) setup --dev
	@$(LOCAL) licenses

audit: ## look the locked packages up among known vulnerabilities (says so where it cannot ask)
	@$(LOCAL) audit

dist: ## build the wheel, for an Airflow or a Spark environment of your own (docs/install.md)
	@$(LOCAL) dist

docs: ## build the site of docs/, with search, and say where it is: every link in it is checked
	@$(LOCAL) docs

pack: ## build .state/pack/environment.tar.gz, the Spark environment for workers that have nothing installed
	@$(LOCAL) pack

databricks-job: ## write STUDY as a Databricks job (JSON and asset bundle) below .state/databricks
	@$(LOCAL) setup
	@PYTHONPATH=jobs:plugins $(AIRFLOW_ENV)/python -m tuning_pipeline.targets.databricks.write_job "$$STUDY" .state/databricks

compose-env: ## write .secrets/ with random passwords, and .env, for `docker compose up`
	@$(LOCAL) compose-env

compose-digests: ## write docker-compose.digests.yaml: the images as they were pulled, by their content's hash
	@$(LOCAL) compose-digests

lock: ## resolve requirements/*.in anew into the hashed lock files
	@$(LOCAL) lock
