# Sensorium. `make help` lists the targets. TORCH_INDEX=URL takes torch from a CPU or CUDA wheel index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
TORCH_INDEX ?=
PYTEST_ARGS ?=
# Debian's python without ensurepip makes environments that have no pip: the host's pip installs into them.
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
packages: # a make of its own, so that PIP sees the environment that was just made
	$(PIP) install --quiet --requirement requirements.txt
	$(PIP) install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python models/ops/build.py

kernels: install ## compile the C++ kernels, where there is a C++ compiler
	@$(BIN)/python models/ops/build.py

demo: install ## train on digits and spirals over HTTP, then ask with a modality missing
	$(BIN)/sensorium serve --port 0 --home var/demo/stack --fresh --run "$(BIN)/python -m examples.demo --out var/demo"

serve: install ## start the embedded stack and leave it running; the first key is in var/api-key
	$(BIN)/sensorium serve

migrate: install ## bring the database up to the newest schema
	$(BIN)/sensorium migrate

check: install ## formatting, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Files of tests run beside each other in JOBS processes, then what needs the machine to itself.
JOBS ?= 2
test: check kernels ## check, then all tests but the slow ones
	$(BIN)/pytest -m "not slow and not serial" -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)
	$(BIN)/pytest -m "serial and not slow" $(PYTEST_ARGS)

test-slow: kernels ## tests that take long: memory, handing over, whole stacks
	$(BIN)/pytest -m slow $(PYTEST_ARGS)

test-gpu: kernels ## train and encode with both models on a CUDA card, and compare with the CPU
	$(BIN)/pytest -m gpu -rs tests/models $(PYTEST_ARGS)

# A number per operation, and a seed that is new every time: make fuzz FUZZ_SEED=1234 sends the same again.
FUZZ_EXAMPLES ?= 300
FUZZ_SEED := $(or $(FUZZ_SEED),$(shell date +%s))
fuzz: install ## send the API good and bad input for several minutes, and check every answer against its document
	@echo "FUZZ_SEED=$(FUZZ_SEED)"
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) FUZZ_SEED=$(FUZZ_SEED) $(BIN)/pytest tests/contract/test_schemathesis.py

chaos: install ## hurt a whole stack at work for up to 25 minutes, and check that nothing was lost
	$(BIN)/python -m tests.chaos

test-containers: install ## build the image, start the whole on the container engine that runs here, and hurt it: up to 25 minutes
	$(BIN)/python -m tests.containers

format: install ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

LOCK = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-package torch \
  --custom-compile-command "make lock" --quiet
lock: install ## resolve anew from pyproject.toml: requirements.txt, and of that what the image needs
	$(LOCK) --all-extras --output-file requirements.txt
	$(LOCK) --extra build --constraints requirements.txt --output-file requirements-image.txt

bench-%: kernels ## measure one thing: make bench-memory runs benchmarks/memory.py
	$(BIN)/python -m benchmarks.$*

clean: ## remove the environment, caches and everything under var/
	rm -rf $(VENV) var models/ops/_kernels-* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
