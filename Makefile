# `make run` is all a newcomer needs; `make` alone lists the rest.
.DEFAULT_GOAL := help
.SILENT:
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
FAST := not services and not browser and not slow and not stripe
# Staff read English; what drivers read is in every language of settings.LANGUAGES.
STAFF_ONLY := .venv var deploy tests bench config stations monitoring firmware billing/admin \
	billing/models billing/sandbox billing/management billing/providers billing/alarms.py billing/books.py \
	billing/lint.py \
	billing/apps.py billing/refunds.py billing/views.py templates/admin templates/unfold \
	templates/email/incident*
REST := (services or browser or slow) and not stripe

.PHONY: help setup setup-dev programs run demo test test-fast check fix fresh docs messages bench \
	bench-ingest bench-actions bench-storm bench-chaos bench-flood bench-pricing cluster clean

help:  ## this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

setup:  ## create .venv and install what running needs (skipped when nothing changed)
	deploy/setup.sh run

setup-dev:
	deploy/setup.sh dev

# Where they cannot be installed, the tests that need them are skipped, but never with CI=true.
programs:
	deploy/setup.sh programs postgres redis-server nginx chromium pdftoppm promtool node npm \
		|| [ -z "$$CI" ]
	deploy/setup.sh peer || [ -z "$$CI" ]

run: setup  ## start everything in one process on PORT (8000)
	exec $(PY) manage.py run

demo: setup  ## the same with a small living network of simulated stations
	exec $(PY) manage.py run --demo

test: setup-dev programs  ## every test: SQLite, services and browser, then PostgreSQL
	$(PY) -m pytest -q -n 2 -m "not services and not browser and not stripe"
	$(PY) -m pytest -q -n 2 --dist loadfile -m "services and not browser"
	$(PY) -m pytest -q -m browser  # by itself: the browser's driver keeps an event loop running
	if deploy/setup.sh programs postgres redis-server 2>/dev/null; then \
		exec $(PY) -m tests.servers postgresql -- \
			$(PY) -m pytest -q -n 2 --only-database -m "not services and not browser and not stripe"; \
	else \
		[ -z "$$CI" ]; \
	fi

test-fast: setup-dev  ## tests that need no service and no browser, under three minutes
	$(PY) -m pytest -q -n 2 -m "$(FAST)"

check: setup-dev  ## linter, format, types, arrows, migrations, deployment, fresh docs
	$(PY) .ci/check.py

fix: setup-dev  ## let the linter mend and format what it can
	.venv/bin/ruff check --fix --quiet .
	.venv/bin/ruff format .

messages: setup-dev  ## gather the drivers' words for translators, compile what they wrote (gettext)
	$(PY) manage.py makemessages --no-location --no-obsolete \
		$(foreach code,de fr it nl es pl,-l $(code)) \
		$(foreach staff,$(STAFF_ONLY),--ignore '$(staff)')
	$(PY) manage.py compilemessages --ignore '.venv'

bench: bench-ingest bench-actions bench-storm bench-chaos bench-flood bench-pricing  ## measure, and write docs/performance.md's tables

bench-ingest: setup-dev programs  ## messages a second, durable before the answer
	$(PY) -m bench.ingest

bench-actions: setup-dev  ## CPU a message of each hot action
	$(PY) -m bench.actions

bench-storm: setup-dev programs  ## two thousand chargers that connect at once
	$(PY) -m bench.storm

bench-chaos: setup-dev programs  ## kill -9 in the middle: nothing acknowledged is lost
	$(PY) -m bench.chaos

bench-pricing: setup-dev  ## a hundred thousand sessions priced on one core
	$(PY) -m bench.pricing

bench-flood: setup-dev programs  ## a hundred chargers send garbage: what do the others notice?
	$(PY) -m bench.flood

cluster: setup  ## the production shape on this machine: PostgreSQL, Redis, nginx, two gateways
	deploy/setup.sh programs postgres redis-server nginx
	exec $(PY) -m deploy.cluster

clean:  ## remove .venv and caches; keeps var/, where the data is
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
