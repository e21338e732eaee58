# Sensorium. `make help` lists the targets. TORCH_INDEX=URL takes torch from a CPU or CUDA wheel index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
TORCH_INDEX ?=
PYTEST_ARGS ?=
# Debian's Python without ensurepip creates environments without pip; then the host's pip installs the packages.
PIP = $(if $(wildcard $(BIN)/pip),$(BIN)/python -m pip,$(PYTHON) -m pip --python $(BIN)/python)

.DEFAULT_GOAL := help
.PHONY: help install kernels demo serve migrate test test-slow test-gpu fuzz chaos test-containers check format lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## create .venv with the pinned versions

$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -c '' || $(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --clear --without-pip $(VENV)
	$(MAKE) --no-print-directory packages
	@touch $@

.PHONY: packages
packages: # runs in a second make process, so that PIP is evaluated after the environment exists
	$(PIP) install --quiet --requirement requirements.txt
	$(PIP) install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python models/ops/build.py

kernels: install ## compile the C++ kernels if a C++ compiler is installed
	@$(BIN)/python models/ops/build.py

demo: install ## train on digits and spirals over HTTP, then infer a missing modality
	$(BIN)/sensorium serve --port 0 --home var/demo/stack --fresh --run "$(BIN)/python -m examples.demo --out var/demo"

serve: install ## run the embedded stack until Ctrl-C; the first API key is in var/api-key
	$(BIN)/sensorium serve

migrate: install ## upgrade the database to the newest schema
	$(BIN)/sensorium migrate

check: install ## check formatting, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# JOBS processes run the test files in parallel. Tests marked `serial` then run one at a time; all of them are in
# tests/e2e, so that pytest does not import the other files again.
JOBS ?= 2
test: check kernels ## run `check`, then all tests except the slow ones
	$(BIN)/pytest -m "not slow and not serial" -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)
	$(BIN)/pytest -m "serial and not slow" tests/e2e $(PYTEST_ARGS)

# Many of these tests wait most of the time, so there are more processes than cores. Each test is named when it ends. A
# test that hangs where no signal reaches it, in C++ or under the interpreter's lock, ends the run, with a traceback.
SLOW_JOBS ?= 3
WATCHED := -o faulthandler_timeout=1260 -o faulthandler_exit_on_timeout=true --max-worker-restart 0
test-slow: kernels ## run the slow tests: memory, rolling restarts, whole stacks, faults
	$(BIN)/pytest -m slow -n $(SLOW_JOBS) --dist loadfile --no-loadscope-reorder -vv $(WATCHED) --durations 20 $(PYTEST_ARGS)

test-gpu: kernels ## train and encode with both models on a CUDA card, and compare with the CPU
	$(BIN)/pytest -m gpu -rs tests/models $(PYTEST_ARGS)

# FUZZ_EXAMPLES is the number of requests per operation. FUZZ_SEED is new for each run; to repeat a run, set its seed.
FUZZ_EXAMPLES ?= 300
FUZZ_SEED := $(or $(FUZZ_SEED),$(shell date +%s))
fuzz: install ## send valid and invalid requests for several minutes, and check each response against the OpenAPI document
	@echo "FUZZ_SEED=$(FUZZ_SEED)"
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) FUZZ_SEED=$(FUZZ_SEED) $(BIN)/pytest tests/contract/test_schemathesis.py

chaos: install ## inject faults into a busy stack for up to 25 minutes, and check that no job is lost
	$(BIN)/python -m tests.chaos

test-containers: install ## build the image, start the production stack in containers, and inject faults: up to 25 minutes
	$(BIN)/python -m tests.containers

format: install ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

LOCK = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-package torch \
  --custom-compile-command "make lock" --quiet
lock: install ## resolve pyproject.toml into requirements.txt and requirements-image.txt
	$(LOCK) --all-extras --output-file requirements.txt
	$(LOCK) --extra build --constraints requirements.txt --output-file requirements-image.txt

bench-%: kernels ## run one benchmark: make bench-memory runs benchmarks/memory.py
	$(BIN)/python -m benchmarks.$*

clean: ## remove the environment, caches and everything under var/
	rm -rf $(VENV) var models/ops/_kernels-* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
