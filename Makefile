# Everything runs in .venv; a target sets up what it needs, once, and again when pyproject.toml changes.
# `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?=
SMOKE ?=
# Two processes: compiling dominates and uses one core. A file stays together because its tests share what they compiled.
PYTEST_ARGS ?= -n 2 --dist loadfile
DEMO_ARGS ?=
QUICK := not (slow or learns or long)
SLOW := slow and not (learns or long)
LEARNING := learns or long
# With -k one of the two may have nothing to run, which pytest ends with 5; without it that is a mistake.
OR_NONE = $(if $(filter -k%,$(PYTEST_ARGS)),|| [ $$? -eq 5 ])
COVERAGE ?= 90
BENCH_ARGS ?=
PEERS_ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
CORE := $(VENV)/.core-installed
DEV := $(VENV)/.dev-installed

export MPLBACKEND := Agg
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1

# The first Python >= 3.11 that runs and can make environments. A name on the PATH is not enough: a pyenv shim
# may stand for a version that is not selected, and Debian ships python3 without ensurepip.
define FIND_PYTHON
for name in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
    if "$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
        echo "$$name"; exit 0; \
    fi; \
done; \
echo "drigm needs Python 3.11 or later with the venv module, and found none on the PATH." >&2; \
echo "  Debian or Ubuntu: sudo apt-get install python3 python3-venv" >&2; \
echo "  another one:      make PYTHON=/path/to/python3.12 <target>" >&2; \
exit 1
endef

# Most programs of tests are small: compiling them takes longer than running them, and a third as long without optimisation
# and with the emitters of old. What learns runs twice as long then, and has neither. XLA ends a process that names a flag it
# does not know, and these may go.
define FAST_COMPILER
if [ -z "$${XLA_FLAGS+set}" ]; then \
    fast="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"; \
    if XLA_FLAGS="$$fast" $(RUN) -c 'import jax; jax.devices()' >/dev/null 2>&1; then export XLA_FLAGS="$$fast"; fi; \
fi
endef

.PHONY: help install demo test test-long test-all coverage learning-margins lint docs bench peers clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  SMOKE=1 shortens the demo; PYTEST_ARGS="-n 2 -k tv" goes to pytest; PYTHON=... picks the interpreter.'

# An environment that no longer runs (moved, or its Python was removed) is made anew.
$(CORE): pyproject.toml
	@if ! $(RUN) -c 'import pip' >/dev/null 2>&1; then \
	    python=$$($(FIND_PYTHON)); \
	    echo "==> Making $(VENV) with $$("$$python" -V) ($$python)"; \
	    rm -rf $(VENV); \
	    "$$python" -m venv $(VENV); \
	fi
	@echo "==> Installing drigm and its dependencies (about 150 MB to fetch, 730 on disk, once)"
	@$(RUN) -m pip install -e .
	@touch $@

$(DEV): $(CORE)
	@echo "==> Installing the tools for tests and checks (once)"
	@$(RUN) -m pip install -e '.[dev]'
	@touch $@

install: $(DEV)  ## make .venv with everything that development needs
	@echo "==> Ready: source $(VENV)/bin/activate, then drigm --help"

demo: $(CORE)  ## train a robust team in Tucson, score it in six cities, open a report
	@$(RUN) -m drigm.demo $(if $(filter 1,$(SMOKE)),--smoke) $(DEMO_ARGS)

# The parity tests compare with SustainGym itself, whose pins need an environment of their own.
# Tests run on the CPU, where results are the same bit for bit; JAX_PLATFORMS=cuda make test overrides this.
test test-long test-all learning-margins: export JAX_PLATFORMS ?= cpu
test: $(DEV)  ## run the tests that a person waits for
	@$(FAST_COMPILER); $(RUN) -m pytest -m "$(QUICK)" $(PYTEST_ARGS)

test-long: $(DEV)  ## run the others: those that train or compile for long, and parity with SustainGym and stockpyl
	@if [ -f tools/make_sustaingym_venv.sh ]; then \
	    echo "==> Making the SustainGym environment of the parity tests"; \
	    bash tools/make_sustaingym_venv.sh $(RUN); \
	fi
	@if [ -f tools/make_stockpyl_venv.sh ]; then \
	    echo "==> Making the stockpyl environment of the parity tests"; \
	    bash tools/make_stockpyl_venv.sh $(RUN) || echo "==> It cannot be made here; what stockpyl does is recorded"; \
	fi
	@if [ -f tools/make_old_onnxruntime_venv.sh ]; then \
	    echo "==> Making an environment with an old ONNX Runtime"; \
	    bash tools/make_old_onnxruntime_venv.sh $(RUN) || echo "==> It cannot be made here; its tests are skipped"; \
	fi
	@if [ -f tools/install_onnxruntime_node.sh ] && command -v node >/dev/null && command -v npm >/dev/null; then \
	    echo "==> Installing ONNX Runtime for Node"; \
	    bash tools/install_onnxruntime_node.sh || echo "==> It cannot be installed here"; \
	fi
	@$(FAST_COMPILER); $(RUN) -m pytest -m "$(SLOW)" $(PYTEST_ARGS) $(OR_NONE)
	@$(RUN) -m pytest -m "$(LEARNING)" $(PYTEST_ARGS) $(OR_NONE)

test-all: test test-long  ## run every test, as CI does

coverage: $(DEV)  ## run all tests and say which lines and branches of the package they leave out
	@rm -f .coverage .coverage.*
	@$(MAKE) --no-print-directory test-all PYTEST_ARGS="$(PYTEST_ARGS) --cov --cov-append --cov-report="
	@$(RUN) -m coverage report --fail-under=$(COVERAGE)

learning-margins: $(DEV)  ## run the tests that learn with ten other seeds; print every learnt number beside its bound
	@DRIGM_TEST_SEEDS=100:110 $(RUN) -m pytest -m learns $(PYTEST_ARGS)

lint: $(DEV)  ## check style, format and types
	@echo "==> ruff check" && $(RUN) -m ruff check .
	@echo "==> ruff format --check" && $(RUN) -m ruff format --check .
	@echo "==> pyright" && $(RUN) -m pyright --pythonpath $(RUN)

docs: $(DEV)  ## build the documentation site, strictly, into build/site/html
	@$(RUN) -m tools.site

bench: $(CORE)  ## measure speed
	@$(RUN) -m benchmarks.bench $(BENCH_ARGS)

peers: $(DEV)  ## measure speed beside BenchMARL and XuanCe, each in an environment of its own
	@$(RUN) benchmarks/peers.py $(PEERS_ARGS)

clean:  ## remove the environments and caches; trained runs stay
	rm -rf .venv .venv-* .node build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
