# Two commands: `make up` and `make test`. The work is done by `python -m local`; this file only finds a Python and installs.
# Written for GNU make 3.81, which macOS has.

HOME_FOLDER := $(if $(MADHATTER_HOME),$(MADHATTER_HOME),$(CURDIR)/.local)
BASE := $(or $(PORT_BASE),$(shell cat "$(HOME_FOLDER)/port_base" 2>/dev/null),18000)
PLATFORM := $(HOME_FOLDER)/env/platform/bin/python
UV := $(HOME_FOLDER)/env/boot/bin/uv
FIND_PYTHON = python="$$(sh local/find_python.sh)"; \
	[ -n "$$python" ] || { echo "preflight: no Python at all. Install Python 3.11 or 3.12 and put it on PATH."; exit 1; }
# The product keeps its bytecode: without it each Beam job starts five seconds later.
unexport PYTHONDONTWRITEBYTECODE
export MADHATTER_HOME PORT_BASE BROKERS S Q FORMAT TARGET

.PHONY: help up down status logs sql clean migrate signal letters drill test lint lock contract replay conformance bench bench-sim bench-hour bench-seconds bench-year soak preflight install install-dev

help: ## This list
	@echo "make ..."
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "  %-16s %s\n", $$1, $$2 }'
	@echo "Settings: MADHATTER_HOME (state folder, .local), PORT_BASE (the last one, or 18000), BROKERS (1, or 3)."

up: preflight install ## Install what is missing, start everything, load the history; again: seconds
	@"$(PLATFORM)" -m local up

down: ## Stop everything; data stays
	@$(NEED_PLATFORM) "$(PLATFORM)" -m local down

status: ## What runs, since when, with how much memory
	@$(NEED_PLATFORM) "$(PLATFORM)" -m local status

logs: ## The log of one service: make logs S=airflow-scheduler (F=1 follows)
	@$(NEED_PLATFORM) "$(PLATFORM)" -m local logs $(if $(F),-f) $(if $(N),-n $(N))

sql: ## Ask the warehouse: make sql Q="select count(*) from core.order_header" (FORMAT=csv)
	@$(NEED_PLATFORM) "$(PLATFORM)" -m local sql

clean: ## Stop, and remove all data and logs (ALL=1: the environments too)
	@$(NEED_PLATFORM) "$(PLATFORM)" -m local clean $(if $(ALL),--all)

migrate: ## Bring the warehouse's schemas up to date
	@$(NEED_PLATFORM) "$(PLATFORM)" -m local migrate

signal: ## Something happens, and its way is shown hop by hop: make signal K=fraud (or stock, sensor, cart)
	@$(NEED_PLATFORM) "$(PLATFORM)" -m local signal "$(K)"

letters: ## Dead letters of Pub/Sub by subscription; make letters AGAIN=alert-book sends them again
	@$(NEED_PLATFORM) "$(PLATFORM)" -m local letters $(AGAIN)

drill: ## Rebuild the warehouse from archive, migrations and ledger beside the running one, and compare
	@$(NEED_PLATFORM) "$(PLATFORM)" -m local drill

test: install-dev lint ## Install what tests need, lint, and run all tests
	@"$(PLATFORM)" -m local.prism "$(HOME_FOLDER)/env/prism"
	@"$(PLATFORM)" -m pytest -n 3 --no-loadscope-reorder $(PYTEST)

lint: install-dev ## ruff, mypy, sqlfluff
	@"$(PLATFORM)" -m ruff check . && "$(PLATFORM)" -m ruff format --check .
	@"$(PLATFORM)" -m mypy
	@"$(PLATFORM)" -m sqlfluff lint --disable-progress-bar include/sql

contract: ## Derive migrations, models, audits and docs from include/contracts
	@$(NEED_PLATFORM) "$(PLATFORM)" -m include.contracts

replay: ## Send a file of yours: make replay FILE=orders.csv MAP=orders.map.yaml (CHECK=1 sends nothing, STRICT=1)
	@$(NEED_PLATFORM) "$(PLATFORM)" -m local.files "$(FILE)" --map "$(MAP)" $(if $(CHECK),--check) $(if $(STRICT),--strict)

conformance: install-dev ## The warehouse's semantics (TARGET=snowflake CONNECTION=name: on a real account)
	@MADHATTER_CONFORMANCE_TARGET=$(TARGET) MADHATTER_CONFORMANCE_CONNECTION=$(CONNECTION) \
		"$(PLATFORM)" -m pytest tests/conformance

bench-seconds: install-dev ## Measure how soon the whole platform reacts at 2,000 events/s, and whether it grows
	@"$(PLATFORM)" -m bench.seconds --chart docs/images/seconds.svg

bench: install-dev ## Measure against the alternatives
	@"$(PLATFORM)" -m local bench

bench-sim: install-dev ## Measure the simulator against one event at a time
	@"$(PLATFORM)" -m bench.simulator

bench-hour: install-dev ## Measure an hour of a million events on a platform of its own
	@"$(PLATFORM)" -m bench.hour

bench-year: install-dev ## Measure what an hour costs after a month and a year, and what grows
	@"$(PLATFORM)" -m bench.year --chart docs/images/year.svg

soak: install-dev ## Everything fails, nothing may be lost: make soak SOAK_MINUTES=5 SEED=7 (Linux, as root)
	@PYTHONPATH="$(CURDIR):$(CURDIR)/plugins" "$(PLATFORM)" -m tests.chaos.soak --minutes $(or $(SOAK_MINUTES),5) \
		$(if $(SEED),--seed $(SEED))

lock: ## Compile the pins anew from requirements/*.in
	@[ -x "$(UV)" ] || { $(FIND_PYTHON); "$$python" local/install.py "$(HOME_FOLDER)"; }
	@for name in boot local dev warehouse bench; do \
		"$(UV)" pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
			$(LOCK) "requirements/$$name.in" -o "requirements/$$name.txt" || exit 1; \
	done

preflight:
	@$(FIND_PYTHON); "$$python" local/preflight.py "$(HOME_FOLDER)" "$(BASE)"

install:
	@$(FIND_PYTHON); "$$python" local/install.py "$(HOME_FOLDER)"

install-dev:
	@$(FIND_PYTHON); "$$python" local/install.py "$(HOME_FOLDER)" --dev

NEED_PLATFORM = [ -x "$(PLATFORM)" ] || { echo "Not installed yet: make up"; exit 1; };
