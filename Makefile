# Everything a person or CI runs; `make help` lists it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-cluster test test-faults test-losses test-pretrained check lint fast cluster-up cluster-down generate verify bench bench-training lock

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.build: requirements/build.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt
	@touch $@

$(VENV)/.demo: requirements/demo.txt pyproject.toml $(VENV)/.build
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/demo.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.demo
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

setup: $(VENV)/.dev ## Install everything but torch into .venv, from the locked requirements

demo: $(VENV)/.demo ## Train and serve two samples on this machine, and compare them with others' answers (Python alone)
	$(BIN)/python -m manifests.demo

demo-cluster: $(VENV)/.dev ## The same by helm and kubectl on a real one-node Kubernetes, or on the cluster of KUBECONFIG
	$(BIN)/python -m manifests.demo_cluster

test: $(VENV)/.dev ## Every tier, without the slow tests (ALL=1: with them); those that this machine cannot run say so by name
	$(BIN)/python -m tests.tiers $(if $(ALL),--all)

check: lint verify fast ## What must hold before a commit; under two minutes

lint: $(VENV)/.dev ## Style, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fast: $(VENV)/.dev ## The fast tests
	$(BIN)/python -m tests.tiers fast

test-faults: $(VENV)/.dev ## The whole sweep: every fault at every point (an hour; the tier faults runs a sample)
	$(BIN)/python -m tests.faults

test-losses: $(VENV)/.dev ## Thirty faults over ten jobs on the node of the tests (root on Linux; half an hour)
	$(BIN)/python -m pytest -q -s -m losses tests/e2e

test-pretrained: $(VENV)/.dev ## MiniLM and SmolLM2 learn further on that node, and are served (root on Linux; 20 minutes)
	$(BIN)/python -m pytest -q -s -m pretrained tests/e2e

cluster-up: ## Bring the one-node Kubernetes of the tests up (root on Linux)
	$(PYTHON) -m tests.cluster up

cluster-down: ## Remove the one-node Kubernetes; what was built stays
	$(PYTHON) -m tests.cluster down

generate: $(VENV)/.dev ## Write what is made from other files: CRDs, dashboard, the chart's copies
	$(BIN)/eagleray generate crds crds
	$(BIN)/eagleray generate crds helm/eagleray/files/crds
	$(BIN)/python -m manifests.monitoring.dashboard

verify: $(VENV)/.dev ## Fail if a generated file is not what `make generate` would write
	$(BIN)/eagleray generate crds --check crds
	$(BIN)/eagleray generate crds --check helm/eagleray/files/crds
	$(BIN)/python -m manifests.monitoring.dashboard --check

bench: $(VENV)/.dev ## Ratios against peers on this machine, in one run
	$(BIN)/python -m bench.serving
	$(BIN)/python -m bench.operator

bench-training: $(VENV)/.dev ## How good and how fast training is beside scikit-learn's, on real data
	PYTHONPATH=$$($(BIN)/python -m tests.support.locks torch) EAGLERAY_ALLOW_FILE_URIS=1 OMP_NUM_THREADS=1 \
	  $(BIN)/python -m bench.training

lock: $(VENV)/.build ## Resolve the requirements anew
	PATH=$(abspath $(BIN)):$$PATH sh requirements/lock.sh
