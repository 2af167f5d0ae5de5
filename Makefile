# Slidewire's commands. Everything is installed into .venv; nothing outside this folder changes, except that
# `make test`, run as root on Debian, installs the servers that the tests talk to (infra/install-services).

BIN = .venv/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SCRIPTS = .ci/run infra/install-services infra/make-venv infra/docker/install infra/docker/try-install infra/system/run

.PHONY: help demo test check services test-faults soak bench bench-feed bench-memory bench-ledger bench-overhead bench-encode bench-results bench-intake bench-reconcile simulate costs clean

help:
	@echo "make demo         embed a sample slide and leave the result in demo-out/ (no GPU, no account, no server)"
	@echo "make test         everything a change must pass: check, then all tests against real servers"
	@echo "make check        lint, format, types, import rules, shell scripts, Dockerfiles"
	@echo "make test-faults  heavier fault injection: kills, restarts, broken answers"
	@echo "make soak         2,000 slides while a worker is killed every few seconds; half an hour"
	@echo "make bench        measure patches per second, end to end"
	@echo "make bench-feed   measure only how fast patches reach the encoder, beside EZ-WSI and wsidicom"
	@echo "make bench-memory read a slide of 100,000 x 100,000 px and show how much memory that takes"
	@echo "make bench-ledger measure claims per second, and with a million shards in the ledger"
	@echo "make bench-overhead measure what ledger, checkpoints and doorbell add to a job"
	@echo "make bench-encode measure Macenko and EXAONEPath beside the published code, and ViTs on a GPU if there is one"
	@echo "make bench-results measure annotations beside highdicom: seconds, memory, size, and an Orthanc's STOW and WADO"
	@echo "make bench-intake measure how soon a slide that arrives is a claimed job, and 500 slides within a minute"
	@echo "make bench-reconcile measure what it takes to search an archive of 100,000 series for what events missed"
	@echo "make simulate     where a fleet of 1 to 128 workers saturates on 100,000 slides"
	@echo "make costs        hours and dollars for 100,000 slides: writes docs/costs.md from tests/bench/costs.toml"
	@echo "make clean        remove outputs and caches (not .venv, not the downloaded sample)"

.venv/bin/python:
	infra/make-venv .venv

.venv/.demo: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing Slidewire and PyTorch into .venv: some minutes the first time."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(PIP) --editable '.[demo]'
	@touch $@

.venv/.test: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing Slidewire and its test tools into .venv: some minutes the first time."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(PIP) --editable '.[torch,tensorflow,hub,onnx,openvino,files,tables,report,demo]' --group tests --group dev
	@touch $@

.venv/.bench: .venv/.test
	$(PIP) --group bench
	@touch $@

demo: .venv/.demo
	$(BIN)/slidewire demo --out demo-out

services:
	infra/install-services

test: .venv/.test services check
	$(BIN)/pytest -m "not faults"

check: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/unit/test_house.py
	$(BIN)/shellcheck $(SCRIPTS)
	$(BIN)/hadolint infra/docker/Dockerfile.*
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec infra/compose.yaml

test-faults: .venv/.test services
	$(BIN)/pytest -m "faults and not soak"

soak: .venv/.test
	$(BIN)/pytest -m soak -s

bench: .venv/.test services
	$(BIN)/python -m tests.bench.bench_embed

bench-feed: .venv/.bench services
	$(BIN)/python -m tests.bench.bench_feed

bench-memory: .venv/.test
	$(BIN)/python -m tests.bench.bench_memory

bench-ledger: .venv/.test services
	$(BIN)/python -m tests.bench.bench_ledger

bench-overhead: .venv/.test services
	$(BIN)/python -m tests.bench.bench_overhead

bench-encode: .venv/.test
	$(BIN)/python -m tests.bench.bench_encode

bench-results: .venv/.test services
	$(BIN)/python -m tests.bench.bench_results

bench-intake: .venv/.test services
	$(BIN)/python -m tests.bench.bench_intake

bench-reconcile: .venv/.test services
	$(BIN)/python -m tests.bench.bench_reconcile

simulate: .venv/.test
	$(BIN)/python -m tests.bench.simulate_fleet

costs: .venv/.test
	$(BIN)/python -m tests.bench.cost_page --write docs/costs.md

clean:
	rm -rf demo-out build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
	find models connectors worker tests -name __pycache__ -type d -prune -exec rm -rf {} +
