# make serve: set up and serve. make test: set up and run the tests. make help: the rest.
# Nothing is needed beforehand but Python >= 3.11 with pip. A stamp in .venv marks each finished step, so that a
# second run skips it and an interrupted one is done again.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CONFIG ?= deployments.yaml
VENV   := .venv
BIN    := $(VENV)/bin

# gpu where nvidia-smi lists a GPU, else cpu; `make serve PROFILE=cpu` decides by hand.
PROFILE ?= $(shell nvidia-smi -L 2>/dev/null | grep -q '^GPU' && echo gpu || echo cpu)
LOCK    := requirements-$(PROFILE).lock
READY   := $(VENV)/.package-$(PROFILE)

# The GPU lock is resolved for Python 3.12 and complete, and differs from what SGLang declares: no resolving there.
PYTHONS_cpu := python3.11 python3.12 python3.13 python3
PYTHONS_gpu := python3.12
PIP_cpu     :=
PIP_gpu     := --no-deps

PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help serve test test-slow test-cluster browser fuzz lint setup lock vendor clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

serve: setup ## set up, serve deployments.yaml (CONFIG=... for another file)
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec $(BIN)/diffusion-serve up --config $(CONFIG)  # serve run that drains at its end

PYTEST := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest
# Networks, processes and mounts of their own: nodes are made in them, and none outlives the run.
ALONE  := unshare --map-root-user --net --mount --pid --fork --kill-child --mount-proc

# Two processes share the tests; tests/conftest.py says which stay together, and in which order they begin.
IN_TWO := --numprocesses 2 --dist loadgroup --no-loadscope-reorder

test: setup ## set up, run the tests that take no GPU and no minutes (PYTEST_ARGS=... for some)
	$(PYTEST) -m "not gpu and not slow and not cluster and not browser and not fuzz" $(IN_TWO) $(PYTEST_ARGS)

test-slow: setup ## the tests that set up, kill and restart whole applications
	$(PYTEST) -m slow $(PYTEST_ARGS)

test-cluster: setup ## four Ray nodes, a lost node and a lost head; needs redis-server, iproute2 and unshare
	@for tool in redis-server ip unshare; do command -v $$tool >/dev/null || { \
	  echo "$$tool is missing: apt-get install redis-server iproute2 util-linux" >&2; exit 1; }; done
	@$(ALONE) true || { echo "this user may make no network namespaces here: run it as root" >&2; exit 1; }
	PATH="$(CURDIR)/$(BIN):$$PATH" $(ALONE) $(BIN)/python -m pytest -m cluster tests/cluster $(PYTEST_ARGS)

BROWSER_TESTS := tests/ingress/page

browser: setup $(BROWSER_TESTS)/node_modules/.package-lock.json ## test the page in a headless Chromium (screenshots: build/screenshots)
	@command -v chromedriver >/dev/null && command -v chromium >/dev/null || { \
	  echo "The browser tests need Chromium (Debian and Ubuntu: apt install chromium chromium-driver)" >&2; exit 1; }
	$(BIN)/python -m pytest -m browser $(BROWSER_TESTS) $(PYTEST_ARGS)

$(BROWSER_TESTS)/node_modules/.package-lock.json: $(BROWSER_TESTS)/package-lock.json
	@command -v npm >/dev/null || { echo "axe-core comes from npm (Debian and Ubuntu: apt install npm)" >&2; exit 1; }
	npm ci --silent --ignore-scripts --prefix $(BROWSER_TESTS)

fuzz: setup ## ten minutes of random requests; prints its seed (FUZZ_SEED=..., FUZZ_SECONDS=...)
	$(PYTEST) -m fuzz --durations=0 tests/ingress/test_schemathesis.py $(PYTEST_ARGS)

lint: setup ## ruff, pyright, import boundaries
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/lint-imports

setup: $(READY) ## only set up .venv

$(READY): pyproject.toml $(VENV)/.installed-$(PROFILE)
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-$(PROFILE): $(LOCK) $(VENV)/.created
	@[ $(PROFILE) = cpu ] || $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' || { \
	  echo "$(LOCK) is for Python 3.12, and $(VENV) has another: run make clean first" >&2; exit 1; }
	@echo "Installing $(LOCK) into $(VENV) (several minutes the first time)"
	$(PIP) install $(PIP_$(PROFILE)) --requirement $(LOCK)
	@rm -f $(VENV)/.installed-* $(VENV)/.package-*  # one environment holds one of the locks
	@touch $@

$(VENV)/.created:
	@for python in $(PYTHONS_$(PROFILE)); do \
	  "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  echo "Creating $(VENV) with $$python"; \
	  "$$python" -m venv $(VENV); \
	  touch $@; \
	  exit 0; \
	done; \
	echo "No fitting Python found. Tried: $(PYTHONS_$(PROFILE)). Needed: Python 3.11 or newer (3.12 for requirements-gpu.lock)" >&2; \
	echo "with its venv module (Debian and Ubuntu: apt install python3-venv)." >&2; \
	exit 1

# uv keeps the versions that stand in the lock; delete the file first to move everything to the newest.
UV_COMPILE := $(or $(wildcard $(BIN)/uv),uv) pip compile pyproject.toml --quiet --no-annotate --no-python-downloads

lock: $(if $(filter cpu,$(PROFILE)),setup) ## resolve both lock files again
	$(UV_COMPILE) --extra demo --extra test --extra dev --extra otel --universal --python-version 3.11 \
	  --find-links "$${PIP_FIND_LINKS:-.}" \
	  --constraints locks/cpu-pins.txt --excludes locks/cpu-left-out.txt \
	  --custom-compile-command "make lock (CPU; extras demo, test, dev, otel; Python 3.11 and newer; inputs: locks/cpu-*.txt)" \
	  --output-file requirements-cpu.lock
	$(UV_COMPILE) --extra sglang --extra test --python-version 3.12 --python-platform x86_64-manylinux_2_35 \
	  --constraints locks/gpu-pins.txt --overrides locks/gpu-overrides.txt --excludes locks/gpu-left-out.txt \
	  --custom-compile-command "make lock (GPU; extras sglang, test; Python 3.12 on Linux x86_64; inputs: locks/gpu-*.txt; install with pip --no-deps)" \
	  --output-file requirements-gpu.lock

PAGE_VENDOR := serve_app/ingress/page/vendor

vendor: ## copy the page's libraries from npm again, at the versions of their package-lock.json
	npm ci --silent --ignore-scripts --prefix $(PAGE_VENDOR)
	cd $(PAGE_VENDOR) && for file in preact/dist/preact preact/hooks/dist/hooks htm/dist/htm; do \
	  sed -e '/^\/\/# sourceMappingURL/d' -e 's#from"preact"#from"./preact.js"#' node_modules/$$file.mjs \
	    > $$(basename $$file).js; \
	done
	cd $(PAGE_VENDOR) && for library in preact htm; do cp node_modules/$$library/LICENSE LICENSE-$$library; done
	rm -rf $(PAGE_VENDOR)/node_modules

clean: ## remove .venv and everything built or cached here
	rm -rf $(VENV) $(BROWSER_TESTS)/node_modules build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .coverage .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
