# make demo: the demo, on SQLite.   make quick: checks and tests without servers, in a minute.   make test: all that CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo quick test check fuzz bench dashboards pictures debian clean

demo: $(VENV)/demo.stamp
	$(BIN)/python -m demo_app

# No PostgreSQL, Prometheus, Chromium or worker processes: for every change while you work on it.
quick: check
	$(BIN)/python -m pytest -m "not server" -n 2

test: $(VENV)/test.stamp debian check
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --durations=25
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

check: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/test.stamp
	HYPOTHESIS_PROFILE=fuzz HISTORIES=10000 $(BIN)/python -m pytest tests/hostile tests/flow/test_histories.py

# The package against its peers, in one run.
bench: $(VENV)/test.stamp debian
	command -v wrk >/dev/null || apt-get install -y -qq --no-install-recommends wrk >/dev/null
	$(BIN)/python -m benchmarks

# The pictures of the README: the live page, and the panels over a migration in a real Prometheus. Three minutes.
pictures: $(VENV)/test.stamp debian
	$(BIN)/python -m docs.pictures

dashboards: $(VENV)/test.stamp
	$(BIN)/python -m dashboards

# The servers that tests start: Debian's packages, installed as root. TEST_POSTGRES_URL names another PostgreSQL.
debian:
	@missing=""; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || [ -n "$$TEST_POSTGRES_URL" ] || missing="$$missing postgresql"; \
	command -v promtool >/dev/null || missing="$$missing prometheus"; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v prometheus-alertmanager >/dev/null || missing="$$missing prometheus-alertmanager"; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && \
	  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	elif [ -n "$$missing" ]; then \
	  echo "install first:$$missing (or set TEST_POSTGRES_URL for a PostgreSQL of yours)" >&2; exit 2; \
	fi

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -U "pip>=25.1"

$(VENV)/demo.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install -q --disable-pip-version-check -e ".[demo]"
	touch $@

$(VENV)/test.stamp: pyproject.toml benchmarks/requirements.txt | $(VENV)/bin/python
	$(BIN)/pip install -q --disable-pip-version-check -e ".[all]" --group dev -r benchmarks/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) build dist .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
