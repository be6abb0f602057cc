# The targets run these commands; the README names them for machines without make.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: install demo test system deep mutation bench lint audit format serve lock

install: $(INSTALLED)

$(INSTALLED): requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $(INSTALLED)

demo: install
	DATABASE_URL=sqlite:///var/demo.sqlite3 PORT=$(PORT) $(BIN)/python -m reversals.demo

test: lint
	$(BIN)/python -m tests.both

# Servers, browsers, faults and deployments: what takes minutes or needs more than a database.
system: install
	$(BIN)/python -m tests.both --system

deep: install
	$(BIN)/python -m tests.both --deep

# A quarter of an hour: the code in over a thousand wrong ways, one at a time (docs/mutation.md).
mutation: install
	$(BIN)/python -m tests.mutation

bench: install
	$(BIN)/python -m benchmarks

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	SECRET_KEY=lint $(BIN)/mypy
	$(BIN)/lint-imports
	SECRET_KEY=lint DATABASE_URL=sqlite://:memory: $(BIN)/python manage.py makemigrations --check --dry-run

# Asks the vulnerability service of pip-audit about each locked version; needs the network, and fails where a version
# cannot be looked up. A venv of its own keeps what pip-audit needs out of the lock.
audit: var/audit/bin/pip-audit
	var/audit/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements.lock

var/audit/bin/pip-audit:
	$(PYTHON) -m venv var/audit
	var/audit/bin/python -m pip install --quiet --disable-pip-version-check "pip-audit~=2.10.0"

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

serve: install
	$(BIN)/python manage.py migrate
	$(BIN)/python -m config.serve --host 0.0.0.0 --port $(PORT)

# Needs uv. Names no registry, so that the lock serves whichever one pip is set up for.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--all-extras pyproject.toml -o requirements.lock
