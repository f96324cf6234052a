# Two commands for a newcomer: `make demo` and `make test`. Both set up .venv by
# themselves from locked, hashed requirements; a second run only looks at stamps.

PYTHON ?= python3
UV ?= uv
VENV := .venv
TOOLS := .venv-proto
BIN := $(VENV)/bin
# As in an activated environment: tests start micropython, mpremote and belayctl by name.
ACTIVE := PATH="$(CURDIR)/$(BIN):$$PATH"
# Never asks, never reads a user's site; the lock files alone say what comes.
PIP := -m pip --disable-pip-version-check --no-input install -qq
export PYTHONNOUSERSITE := 1
# Tests mostly wait for boards, so that one more than there are cores costs nothing; files stay whole.
JOBS ?= $(shell expr 1 + `getconf _NPROCESSORS_ONLN`)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format bench proto lock clean parts-demo parts-test

help:  ## list what make can do
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; done

demo: parts-demo $(VENV)/.daemon  ## simulated boards, a deployment and calls on them, then their health
	@$(BIN)/python -m belayd demo

test: parts-test $(VENV)/.test $(TOOLS)/.ready  ## everything the project holds itself to; ARGS="-k name" for less, JOBS=0 in one process
	@$(ACTIVE) python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: parts-test $(VENV)/.test $(TOOLS)/.ready  ## style, types, imports and generated code only
	@$(ACTIVE) python -m pytest tests/house $(ARGS)

format: $(VENV)/.test  ## rewrite sources as the style wants them
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet . ; $(BIN)/buf format -w proto

bench: parts-test $(VENV)/.test  ## measure against Belay and mpremote on the same kind of board, 11 min; QUICK=1 for less
	@$(ACTIVE) python benchmarks/call.py $(if $(QUICK),--calls 100) $(ARGS)
	@$(ACTIVE) python benchmarks/call.py --board microbit --calls $(if $(QUICK),100,400)
	@$(ACTIVE) python benchmarks/stream.py $(if $(QUICK),--items 2000)
	@set -e; for each in fleet stuck links small leases deploy hundred; do \
		$(ACTIVE) python benchmarks/$$each.py $(if $(QUICK),--quick); done

proto: $(TOOLS)/.ready  ## regenerate belayd/v1 from proto/
	@PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" $(TOOLS)/bin/python proto/generate.py

clean:  ## remove the environments
	rm -rf $(VENV) $(TOOLS)

parts-demo:
	@PYTHON="$(PYTHON)" requirements/parts.sh demo

parts-test:
	@PYTHON="$(PYTHON)" requirements/parts.sh test

# The environment of the daemon, then on top of it that of the tests, which holds the same versions.
$(VENV)/.daemon: requirements/daemon.txt pyproject.toml
	@echo "setting up $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP) --require-hashes -r requirements/daemon.txt
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.daemon
	@echo "adding what the tests need" >&2
	@$(BIN)/python $(PIP) --require-hashes -r requirements/test.txt
	@touch $@

# Generates for every grpcio from 1.71 on, so its protobuf is older than the daemon's.
$(TOOLS)/.ready: proto/requirements.txt
	@echo "setting up $(TOOLS)" >&2
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python $(PIP) --require-hashes -r proto/requirements.txt
	@touch $@

# Names versions and hashes, never where they came from.
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate
LOCKED = { echo '\# Made by `make lock`; pip checks every hash.'; cat $@.new; } > $(1) && rm $@.new

lock:  ## choose versions anew and write the lock files (needs uv)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 2; }
	@$(COMPILE) --upgrade --extra daemon --extra sim --group build pyproject.toml -o $@.new >/dev/null
	@$(call LOCKED,requirements/daemon.txt)
	@$(COMPILE) --upgrade -c requirements/daemon.txt --extra daemon --extra sim --group build --group test \
		pyproject.toml -o $@.new >/dev/null
	@$(call LOCKED,requirements/test.txt)
	@$(COMPILE) --upgrade proto/requirements.in -o $@.new >/dev/null
	@$(call LOCKED,proto/requirements.txt)
