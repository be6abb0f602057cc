# Each target is a few plain commands; run them directly on a machine without make.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
INSTALLED := .venv/installed
DEV_INSTALLED := .venv/installed-dev

.PHONY: install demo test both system deep cluster mutation bench docs pictures lint audit format serve lock

install: $(INSTALLED)

$(INSTALLED): requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $(INSTALLED)

# The runtime packages, and on top the tests and tools.
$(DEV_INSTALLED): $(INSTALLED) requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $(DEV_INSTALLED)

demo: install
	DATABASE_URL=sqlite:///var/demo.sqlite3 PORT=$(PORT) $(BIN)/python -m reversals.demo

# Lint and the tests at the same time: what lint finds is printed first.
test: $(DEV_INSTALLED)
	$(MAKE) --no-print-directory -j2 lint both

both: $(DEV_INSTALLED)
	$(BIN)/python -m tests.both

# Servers, browsers, faults and deployments: what takes minutes or needs more than a database.
system: $(DEV_INSTALLED)
	$(BIN)/python -m tests.both --system

deep: $(DEV_INSTALLED)
	$(BIN)/python -m tests.both --deep

# The tests of calls and commands on the Citus cluster at CITUS_URL (docs/scaling.md). Says so if there is none.
cluster: $(DEV_INSTALLED)
	$(BIN)/python -m tests.cluster

# A quarter of an hour: the code in over a thousand wrong ways, one at a time (docs/mutation.md).
mutation: $(DEV_INSTALLED)
	$(BIN)/python -m tests.mutation

bench: $(DEV_INSTALLED)
	$(BIN)/python -m benchmarks

# The documentation as a site in var/docs, without the network; a warning is an error.
docs: $(DEV_INSTALLED)
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html docs var/docs

# Retakes the pictures of the back office guide; needs Chromium.
pictures: $(DEV_INSTALLED)
	$(BIN)/python docs/pictures.py

lint: $(DEV_INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	SECRET_KEY=lint $(BIN)/mypy
	$(BIN)/lint-imports
	SECRET_KEY=lint DATABASE_URL=sqlite://:memory: $(BIN)/python manage.py makemigrations --check --dry-run
	SECRET_KEY=lint DATABASE_URL=sqlite://:memory: $(BIN)/python -m tests.migration_lint

# Asks the vulnerability service of pip-audit about each locked version; needs the network, and fails where a version
# cannot be looked up. A venv of its own keeps what pip-audit needs out of the locks; requirements-dev.lock has all
# versions of requirements.lock.
audit: var/audit/bin/pip-audit
	var/audit/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements-dev.lock

var/audit/bin/pip-audit:
	$(PYTHON) -m venv var/audit
	var/audit/bin/python -m pip install --quiet --disable-pip-version-check "pip-audit~=2.10.0"

format: $(DEV_INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# With a worker beside the server; WORKER=off leaves it out.
serve: install
	$(BIN)/python manage.py migrate
	MONITORING_ADDRESS=$${MONITORING_ADDRESS-127.0.0.1:$$(($(PORT) + 1))} \
		$(BIN)/python -m config.together --host 0.0.0.0 --port $(PORT)

# Needs uv. The locks name no registry, so that they work with any that pip is configured for.
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header pyproject.toml

lock:
	$(COMPILE) -o requirements.lock
	$(COMPILE) --constraint requirements.lock --group dev -o requirements-dev.lock
