# `make repro` runs the experiment that params.yaml describes, `make test` the tests. Both set themselves up first.
PYTHON ?= python3.11
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro test harness check security setup

repro: $(VENV)/.ready
	python src/recover.py
	dvc repro

test: $(VENV)/.ready-dev
	python -m pytest

harness: $(VENV)/.ready-dev  # the long tests: real servers and the queue at full size, stages killed at random
	python -m pytest -m long tests/test_remotes.py tests/test_queue.py
	python tests/harness/kills.py --setting tiny --kills 20

check: $(VENV)/.ready-dev
	ruff check .
	ruff format --check .
	mypy

security: $(VENV)/.ready-dev
	.ci/secrets
	python .ci/audit.py

setup: $(VENV)/.ready-dev

$(VENV)/.ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.txt requirements-remotes.txt
	python -m pip install --quiet -r requirements-dev.txt
	touch $@
