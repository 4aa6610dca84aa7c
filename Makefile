# The verbs of this repository. Each sets up what it needs: Python 3.11, git and make are enough.
.PHONY: up test fast lint fix bench chaos soak agent lock clean
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PY := $(BIN)/python
# A lock names everything: --no-deps keeps a newer release in the index from being weighed at all.
INSTALL := $(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps
TEMPLATES = $$(git ls-files 'templates/*.html')
COMPILE := $(BIN)/uv pip compile -q --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-header

up: .venv/.run  ## everything on this computer: PORT=8000 AGENTS=5 DATA=var
	@$(PY) manage.py up

test: .venv/.dev  ## all tests, with coverage
	@$(PY) -m pytest -q -n 2 -p no:django tests/core --cov --cov-report=
	@$(BIN)/coverage report --include="$$($(PY) -m tests.pure_modules)" --fail-under=100 --skip-covered
	@$(PY) -m pytest -n 3 --ignore tests/core --cov --cov-append --cov-report=term:skip-covered --cov-fail-under=92

fast: .venv/.dev  ## in a few seconds: style, import contracts, pure tests
	@$(BIN)/ruff check -q . && $(BIN)/ruff format -q --check . && $(BIN)/lint-imports
	@$(PY) -m pytest -q -p no:django tests/core

lint: .venv/.dev  ## style, import contracts, types, templates, migrations
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/mypy .
	@$(BIN)/djlint templates --lint --quiet && $(BIN)/djade --target-version 5.2 --check $(TEMPLATES)
	@DATABASE_POOL_TIMEOUT=1 $(PY) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run

fix: .venv/.dev  ## what lint can repair by itself
	@$(BIN)/ruff check -q --fix . ; $(BIN)/ruff format . ; $(BIN)/djade --target-version 5.2 $(TEMPLATES)

bench: .venv/.dev  ## every benchmark, or ROW=7 alone; figures go to bench/RESULTS.md
	@$(PY) bench/run.py $(ROW)

chaos: .venv/.dev  ## kills and cuts while rollouts run: CHAOS_SECONDS=300 SEED=1 AGENTS=12
	@$(PY) -m bench.chaos

soak: .venv/.dev  ## an hour's work in minutes, does anything grow: SOAK_SECONDS=540 AGENTS=3
	@$(PY) -m bench.soak

agent: .venv/.run  ## the node agent as one file
	@$(PY) -m agent.build dist/jobsite-agent.pyz

lock: .venv/.dev  ## compile the pinned requirements anew
	@$(COMPILE) requirements.in -o requirements.txt
	@$(COMPILE) requirements-engine.in -o requirements-engine.txt
	@$(COMPILE) requirements-dev.in -o requirements-dev.txt

clean:  ## what can be made again; data in var/ stays
	@rm -rf .venv dist test-results .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@echo "making the virtual environment…" && $(PYTHON) -m venv .venv

.venv/.run: requirements.txt requirements-engine.txt | .venv/bin/pip
	@echo "installing what Jobsite runs on (about 300 MB, some twenty seconds)…"
	@$(INSTALL) -r requirements.txt && $(INSTALL) -r requirements-engine.txt && touch $@

.venv/.dev: requirements-dev.txt .venv/.run
	@echo "installing the tools of tests and lint (about 500 MB)…"
	@$(INSTALL) -r requirements-dev.txt && touch $@
