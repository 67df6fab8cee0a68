# The words a person types first. Each target names what is missing and how to get it (scripts/setup.sh).
# Everything it makes stays in target/, fuzz/target/ and .rig/.

SHELL := /bin/bash
SECONDS_EACH ?= 60
KILLS ?= 200

.DEFAULT_GOAL := help
.PHONY: help setup build dist browser test ci demo bench crash fuzz tidy

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

setup: ## install what building, testing and measuring need (apt, .rig/venv, .rig/npm)
	@scripts/setup.sh all

build: ## the release binary, target/release/chancery
	@scripts/setup.sh build
	cargo build --release --locked --package chancery-cli

dist: ## what is shipped and measured, target/dist/chancery: a release build trained on the benchmark's workloads; 20 minutes
	@scripts/setup.sh bench
	@.rig/venv/bin/python scripts/dist.py

browser: ## the page that verifies packs in a browser, target/browser/verify.html
	@scripts/setup.sh build
	@cargo xtask browser

test: ## install what tests need, then run the whole gate
	@scripts/setup.sh test
	@cargo xtask ci

ci: test ## the same as test

demo: ## the story in a terminal; ONESHOT=1 plays it and exits
	@scripts/setup.sh test
	@cargo build --quiet --locked --package chancery-cli
	@target/debug/chancery demo $(if $(ONESHOT),--oneshot)

bench: ## measure what make dist makes against direct, HAProxy and PgBouncer; BENCH="--quick" for a smoke run of make build's
	@scripts/setup.sh bench
	@$(if $(findstring --quick,$(BENCH))$(findstring release,$(BENCH)),cargo build --quiet --release --locked \
		--package chancery-cli,.rig/venv/bin/python scripts/dist.py)
	@cargo build --quiet --release --locked --package chancery-store --example verify
	@.rig/venv/bin/python bench/run.py $(BENCH)

crash: ## kill the gateway KILLS (200) times under load and compare PostgreSQL's log with the ledger
	@scripts/setup.sh test
	@cargo build --quiet --locked --package chancery-cli
	@CHANCERY_KILLS=$(KILLS) .rig/venv/bin/python -m pytest -c tests/pytest.ini tests/drivers/test_crash.py -rs -s

fuzz: ## every fuzz target for SECONDS_EACH (60) seconds; TARGET=name for one
	@scripts/setup.sh build
	@cargo xtask fuzz --seconds $(SECONDS_EACH) $(TARGET)

tidy: ## the rules of the house
	@scripts/setup.sh build
	@cargo xtask tidy
