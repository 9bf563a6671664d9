# Every task of the project. `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
LOCAL  := deploy/local/all.sh
BACKENDS ?= embedded
# $(call on,SERVER...) before a command: what BACKENDS=real needs and the environment does not name is ours, for as long as it takes
on      = $(if $(filter real,$(BACKENDS)),$(if $(INDACO_TEST_MONGODB),,$(LOCAL) run $(1) --))

.DEFAULT_GOAL := help
.PHONY: help setup demo up test protocol check fix bench chaos contracts docs image ci ci-quick ci-slow clean

help: ## List the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/' | expand -t 14

setup: $(VENV)/.ready ## Make the virtual environment with everything that development needs

$(VENV)/.ready: pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' 2>/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock 2>/dev/null || \
	 echo "requirements.lock does not fit this machine; resolving anew"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -e . --group dev
	@touch $@

demo: setup ## Show the main job on this machine, in a minute (BACKENDS=embedded|real)
	@-test -z "$(INDACO_DEMO_IMAGE)" || deploy/docker/vm-image.sh
	@$(call on,rabbitmq mongo openbao docker) $(BIN)/python scripts/demo.py --backends $(BACKENDS)

up: setup ## Run the whole federation until Ctrl-C, data in ./data
	@$(BIN)/indaco run --log console

test: setup ## All tests; real servers are used where they are (see README), else skipped
	@$(BIN)/python -m pytest $(ARGS)

protocol: setup ## The protocol of the real aggregates: 2,000 seeds, and every rule taken out in turn
	@INDACO_PROTOCOL_SEEDS=$${SEEDS:-2000} $(BIN)/python -m pytest tests/protocol $(ARGS)

check: setup ## Lint, types, layers, sizes, contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy
	@$(BIN)/python scripts/check_size.py
	@$(BIN)/python scripts/contracts.py --check

fix: setup ## Format, and mend what the linter can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## Measure against raw limits; table and build/bench.json (ONLY=name)
	@$(BIN)/python -m benchmarks $(ONLY)

chaos: setup ## Kill it again and again; the books must balance (SEED= KILLS= DEPLOYMENTS= BACKENDS=)
	@$(call on,mongo openbao) $(BIN)/python -m tests.chaos --backends $(BACKENDS) --seed $${SEED:-1} --kills $${KILLS:-30} --deployments $${DEPLOYMENTS:-200}

contracts: setup ## Write JSON Schemas, examples and AsyncAPI of all messages anew
	@$(BIN)/python scripts/contracts.py

docs: setup ## Build the documentation; warnings are errors
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group docs
	@$(BIN)/python scripts/sync_client.py
	@$(BIN)/python scripts/reference.py
	@$(BIN)/sphinx-build -q -W -b html docs docs/_build

image: ## Build the container image of the services
	docker build -f deploy/Dockerfile -t indaco:dev .

# A test that fails on a busy machine is tried once more, and so is a chaos run that ran out of its time, with the next seed; what
# was tried again is in the output.
# $(call tested,NAME,WHAT): a part of the tests, and once more those of it that failed
tested = $(MAKE) --no-print-directory test ARGS="-o cache_dir=.pytest_cache/$(1) $(2)" || \
	$(MAKE) --no-print-directory test ARGS="-o cache_dir=.pytest_cache/$(1) $(2) --lf --lfnf=none"
QUICK := tests/unit tests/contracts tests/protocol

ci-quick:
	@$(call tested,quick,$(QUICK))

ci-slow: # which mostly waits, so that both go on at the same time
	@$(call tested,slow,tests $(QUICK:%=--ignore=%))

ci: ## What CI runs: check, all tests on real servers, short chaos, docs
	@$(MAKE) --no-print-directory check
	@$(LOCAL) start
	@set -e; eval "$$($(LOCAL) env)"; export INDACO_CI=1; \
	 $(MAKE) --no-print-directory -j2 ci-quick ci-slow; \
	 $(MAKE) --no-print-directory chaos KILLS=6 DEPLOYMENTS=30 || $(MAKE) --no-print-directory chaos KILLS=6 DEPLOYMENTS=30 SEED=2; \
	 $(MAKE) --no-print-directory chaos BACKENDS=real KILLS=5 DEPLOYMENTS=20 || \
	 $(MAKE) --no-print-directory chaos BACKENDS=real KILLS=5 DEPLOYMENTS=20 SEED=2
	@$(MAKE) --no-print-directory docs

clean: ## Remove what was built
	rm -rf build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
