# `make repro` runs the experiment of params.yaml, `make test` the tests. Both set themselves up first.
PYTHONS := python3.13 python3.12 python3.11  # set-up takes the first that runs here; PYTHON=... takes another
TORCH ?=  # what pip is told beside torch's version, as `make setup TORCH="--index-url URL"` for a CPU build
VENV := .venv
PIP := $(VENV)/bin/python -m pip
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro study test test-all harness check security docs setup lock params publish

repro: $(VENV)/.ready
	python tools/recover.py
	dvc repro

study: $(VENV)/.ready  # the study that params.yaml describes, and what it needs of the experiment
	python tools/recover.py
	dvc repro study/dvc.yaml

PYTEST := OMP_NUM_THREADS=1 python -m pytest -n $(or $(WORKERS),2) --dist loadfile

test: $(VENV)/.ready-dev  # WORKERS=4 where there are more cores; one thread each
	$(PYTEST)

test-all: $(VENV)/.ready-dev  # also what `make test` leaves out
	$(PYTEST) -m ""

harness: $(VENV)/.ready-dev  # real servers and the queue at full size, stages killed at random; an hour or so
	python -m pytest -m long
	python tests/pipeline/kills.py --setting tiny --kills 20

check: $(VENV)/.ready-dev
	ruff check .
	ruff format --check .
	mypy

security: $(VENV)/.ready-dev
	.ci/secrets
	python .ci/audit.py

docs: $(VENV)/.ready-dev  # the documents as a site in .site/; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict

lock: $(VENV)/.ready-dev  # requirements*.txt from requirements*.in; UPGRADE="numpy scipy" raises these
	python tools/lock.py $(UPGRADE:%=--upgrade-package=%)

params: $(VENV)/.ready  # params.yaml from conf/
	@python -c "from dvc.utils.hydra import compose_and_dump as compose; \
	    compose('params.yaml', '$(CURDIR)/conf', None, 'config', '', [])"

publish: $(VENV)/.ready  # SAME=1: for changed code that changes no number
	python tools/publish.py $(if $(SAME),--same)

setup: $(VENV)/.ready-dev

$(VENV)/.ready: requirements.txt
	@command -v git > /dev/null || { echo "make: git is missing"; exit 1; }
	@{ $(VENV)/bin/python -c "$(SERVES)" && $(PIP) --version; } > /dev/null 2>&1 || { $(make-venv); }
	@echo "$(VENV): torch"
	@$(PIP) install -qq "$$(grep -o '^torch==[^ ]*' requirements.txt)" $(TORCH)
	@echo "$(VENV): requirements.txt"
	@$(call install,requirements.txt)
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.txt
	@echo "$(VENV): requirements-dev.txt"
	@$(call install,requirements-dev.txt)
	@touch $@

# A .venv without pip gets one. It is made anew only if that fails: it may hold a torch that somebody chose.
SERVES := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
CANDIDATES = $(strip $(or $(PYTHON),$(PYTHONS)))
define make-venv
for python in $(CANDIDATES); do $$python -c "$(SERVES)" 2> /dev/null && break; python=; done; \
[ "$$python" ] || { echo "make: no Python 3.11, 3.12 or 3.13 with its venv module: $(CANDIDATES)"; exit 1; }; \
echo "$(VENV): $$($$python --version)"; \
{ $$python -m venv $(VENV) && $(PIP) --version; } > /dev/null 2>&1 || $$python -m venv --clear $(VENV)
endef

# The rest of a lock: with uv, or with pip where uv cannot be had or does not reach pip's index. After a set-up that
# was cut off everything is installed again, because a package that is half there counts as installed. Bytecode is
# compiled at once: the stages are many short processes.
define install
again=$$([ ! -e $(VENV)/.busy ] || echo --force-reinstall); touch $(VENV)/.busy; \
grep -v '^torch==' $(1) > $(VENV)/.rest; \
{ $(PIP) install -qq "$$(grep -o '^uv==[^ ]*' requirements-dev.txt)" && \
$(VENV)/bin/python -m uv pip install --quiet --python $(VENV)/bin/python --compile-bytecode --no-deps $$again \
    -r $(VENV)/.rest; } || { echo "$(VENV): uv failed; pip does it"; \
$(PIP) install -qq --no-deps $$again -r $(VENV)/.rest; } && rm $(VENV)/.busy
endef
