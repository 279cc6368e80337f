# Everything sets itself up: `make demo` to see it run, `make test` to check it.

# Debian's own Python where it is new enough: it is built for speed, unlike most others (see docs/performance.md).
DEBIAN := /usr/bin/python3
PYTHON ?= $(shell $(DEBIAN) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(DEBIAN) || echo python3)
BIN := .venv/bin
READY := .venv/.ready
BENCH ?= all

.PHONY: demo test lint bench fuzz simulate format clean

demo: $(READY)  ## Run the MTA with its embedded mail store and show how to send and read mail
	$(BIN)/python -m mta.demo

test: $(READY)  ## Install the real peers (Dovecot, Postfix, swaks ...) and run all tests
	.ci/peers
	.ci/azurite
	.ci/test

lint: $(READY)  ## Style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## Measure against Postfix: make bench BENCH=throughput
	.ci/peers
	$(BIN)/python -m bench $(BENCH)

fuzz: $(READY)  ## Fuzz wire, syntax and messages for a minute each
	$(BIN)/python -m pip install --quiet --group fuzz
	set -e; for target in tests/fuzz/fuzz_*.py; do $(BIN)/python $$target -max_total_time=60 -print_final_stats=1; done

simulate: $(READY)  ## Thirty thousand seeded runs of a cluster of queues in which everything fails (an hour)
	SIMULATION_RUNS=10000 $(BIN)/python -m pytest -q tests/simulation

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo

$(READY): pyproject.toml .ci/venv
	PYTHON="$(PYTHON)" .ci/venv
	touch $@
