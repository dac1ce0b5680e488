# The list of commands. `make` alone lists them.
#
# Everything is installed into .venv from lock files with hashes. `uv` is used where it is on the
# PATH, because it is faster; Python's own venv and pip do the same without it.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python that is new enough; `make install PYTHON=…` names another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed.stamp
BENCH_INSTALLED := $(VENV)/bench.stamp
CLUSTER_INSTALLED := $(VENV)/cluster.stamp
SPARK := .spark/venv
SPARK_INSTALLED := $(SPARK)/installed.stamp
SPARK_JARS := .spark/jars/complete.stamp
LOCKS := requirements/build.txt requirements/dev.txt

UV := $(shell command -v uv 2>/dev/null)
UV_OR_OURS := $(or $(UV),$(wildcard $(BIN)/uv))
ifdef UV
PIP_INSTALL := $(UV) pip install --quiet --python $(BIN)/python
else
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

# `make test JOBS=1` for one process.
JOBS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
# `make bench ROWS=1000000` for larger runs.
ROWS ?= 200000
# `make lock UPGRADE=--upgrade` also takes newer versions; without it only what must change does.
UPGRADE ?=
COMPILE = $(UV_OR_OURS) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links --annotation-style line $(UPGRADE)

.PHONY: help
help: ## this list
	@echo "Zaslon: make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: install
install: $(INSTALLED) ## make .venv with the zaslon command (again: nothing to do)

.PHONY: demo
demo: $(INSTALLED) ## watch the whole loop run on simulated transactions, under 90 seconds
	$(BIN)/zaslon demo

.PHONY: test
test: $(INSTALLED) ## the fast tests, in a process per processor (JOBS=2)
	$(PYTEST)

.PHONY: laws
laws: $(INSTALLED) ## the slow tests, and every law with many more examples
	HYPOTHESIS_PROFILE=ci $(PYTEST) -m '(slow or law) and not integration and not cluster and not bench'

.PHONY: integration
integration: $(INSTALLED) ## tests on real servers, which they start by themselves (Java 17 and Maven)
	$(BIN)/python -m pytest -m integration tests/integration tests/contract

.PHONY: cluster-test
cluster-test: $(CLUSTER_INSTALLED) $(SPARK_INSTALLED) $(SPARK_JARS) ## tests on a real Spark, HDFS and S3, which they start by themselves (Java 17 and Maven)
	$(BIN)/python -m pytest -m cluster tests/cluster

.PHONY: kafka
kafka: $(INSTALLED) ## a real Kafka on loopback in .kafka, with TLS, users and topics
	$(BIN)/python deploy/kafka/broker.py start
	@env $$(cat .kafka/admin.env) $(BIN)/zaslon topics create

.PHONY: check
check: $(INSTALLED) ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(INSTALLED) ## fix style and layout with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(BENCH_INSTALLED) ## our speed beside PySpark, DuckDB, Polars and pandas (ROWS=200000)
	$(BIN)/python benchmarks/batch.py --rows $(ROWS)

.PHONY: lock
lock: ## rewrite the lock files (needs uv; UPGRADE=--upgrade takes newer versions)
	@test -n "$(UV_OR_OURS)" || { echo "make lock needs uv on the PATH (python3 -m pip install uv)."; exit 1; }
	$(COMPILE) pyproject.toml --extra dev --extra kafka --extra mlflow --extra tune --extra api --extra client --extra postgres --extra s3 --extra hadoop -o requirements/dev.txt
	$(COMPILE) requirements/build.in -c requirements/dev.txt -o requirements/build.txt
	$(COMPILE) pyproject.toml -c requirements/dev.txt -o requirements/core.txt
	$(COMPILE) pyproject.toml --extra bench -c requirements/dev.txt -o requirements/bench.txt
	$(COMPILE) requirements/cluster.in -c requirements/dev.txt -o requirements/cluster.txt
	$(COMPILE) requirements/quix.in -o requirements/quix.txt
	$(COMPILE) requirements/bento.in -o requirements/bento.txt
	$(COMPILE) requirements/mlflow-server.in -c requirements/dev.txt -o requirements/mlflow-server.txt
	$(COMPILE) requirements/airflow.in -o requirements/airflow.txt
	$(COMPILE) pyproject.toml --extra spark --extra hadoop requirements/spark.in -c requirements/dev.txt -o requirements/spark.txt
	$(COMPILE) pyproject.toml --extra spark --extra hadoop -c requirements/dev.txt -c requirements/spark.txt \
		--no-emit-package pyspark --no-emit-package py4j -o src/zaslon/adapters/environment/locked.txt

.PHONY: clean
clean: ## remove .venv, caches and the demo's data
	rm -rf $(VENV) build dist zaslon-data/demo bench-results
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks -type d -name __pycache__ -exec rm -rf {} + 2>/dev/null || true

# The stamp is written last, so the next `make` resumes an interrupted installation.
$(INSTALLED): pyproject.toml $(LOCKS)
ifdef UV
	@test -x $(BIN)/python || $(UV) venv --quiet --python '>=3.11' $(VENV)
else
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { \
		echo "Python 3.11 or newer is needed: make install PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "The venv module is missing; Debian and Ubuntu have it in python3-venv."; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
endif
	@echo "Installing into $(VENV); the first time takes a few minutes."
	$(PIP_INSTALL) --require-hashes -r requirements/build.txt -r requirements/dev.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@$(BIN)/zaslon doctor --warm || echo "Warm-up did not finish: the first command will compile instead."
	@touch $@

$(BENCH_INSTALLED): $(INSTALLED) requirements/bench.txt
	$(PIP_INSTALL) --require-hashes -r requirements/bench.txt
	@touch $@

$(CLUSTER_INSTALLED): $(INSTALLED) requirements/cluster.txt
	$(PIP_INSTALL) --require-hashes -r requirements/cluster.txt
	@touch $@

# Spark lives beside, in an environment like that of a cluster: 0.7 GB that nothing else needs.
$(SPARK_INSTALLED): $(INSTALLED) requirements/spark.txt
	@test -x $(SPARK)/bin/python || $(BIN)/python -m venv $(SPARK)
	$(SPARK)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt
	$(SPARK)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/spark.txt
	$(SPARK)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What Spark needs for S3, of exactly the version of its Hadoop.
$(SPARK_JARS): deploy/spark/pom.xml
	@rm -rf $(@D) && mkdir -p $(@D)
	mvn -q -B -f deploy/spark/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/$(@D)
	@touch $@
