# squib: 'make run' shows it at work, 'make test' tests it. Each target sets up what it needs.
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-test run test test-images check format generate bench clean

PYTEST_ARGS ?=
export PYTHON

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: ## Make .venv with what squib needs to run
	@scripts/setup run

setup-dev:
	@scripts/setup dev

setup-test: ## Make .venv, and install what the tests run against: PostgreSQL, bubblewrap, an agent
	@scripts/setup test

run: setup ## Start squib, show a first task from prompt to diff, stay up until Ctrl-C
	@exec .venv/bin/squib up --demo

test: setup-test ## Run all tests (PYTEST_ARGS="tests/store -x" for some)
	@exec scripts/test $(PYTEST_ARGS)

test-images: setup-test ## Build the images that are not built yet, and work in a sandbox of each (minutes)
	@SQUIB_TEST_IMAGES=$(or $(SQUIB_TEST_IMAGES),/var/tmp/squib-images) scripts/test tests/host/images/test_six.py $(PYTEST_ARGS)

check: setup-dev ## Lint, types, import rules, generated files, locks
	@exec .venv/bin/python scripts/check.py

format: setup-dev ## Format the code and mend what the linter can
	@.venv/bin/ruff check --quiet --fix-only . ; .venv/bin/ruff format .

generate: setup-dev ## Write docs/openapi.json, docs/cli.md and docs/settings.md from the code
	@exec .venv/bin/python scripts/generate.py

bench: setup-dev ## Measure, beside bare floors and the targets; writes bench/out/results.json (BENCH_ARGS="queue" for some)
	@exec .venv/bin/python -m bench $(BENCH_ARGS)

clean: ## Remove what set-up, checks and builds have made; squib's state stays
	@rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build bench/out
	@find . -name __pycache__ -prune -exec rm -rf {} +
