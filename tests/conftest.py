"""What every test file shares."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext, override_settings, setup_databases, teardown_databases
from django.utils import timezone
from time_machine import escape_hatch

from loyalty.ledger import clock
from loyalty.ledger.sql import Statement
from reversals.api.monitoring import health
from tests.builders import World, make_world
from tests.postgresql import run_script
from tests.serving import serving, with_demo_ledger
from tests.templates import copy_migrated_sqlite

# A migrated SQLite file in place of the template: the code of these runs is another each time (tests/mutation.py).
MADE = os.environ.get("TEST_DATABASE_MADE")

# What is done to the migrated database before the tests begin (tests/database/test_partitioning.py).
SCRIPT = os.environ.get("TEST_DATABASE_SCRIPT")


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """The test database, made even where only tests that commit are run: pytest-django does not count those."""
    if connection.vendor == "sqlite":
        _copy_template(tmp_path_factory.mktemp("database") / "test.sqlite3")
    with django_db_blocker.unblock():
        databases = setup_databases(verbosity=0, interactive=False, keepdb=connection.vendor == "sqlite")
    if SCRIPT:
        run_script(
            os.environ["DATABASE_URL"].replace("/postgres?", f"/{connection.settings_dict['NAME']}?"), Path(SCRIPT)
        )
    yield
    if not MADE:  # else in a fork, which has no thread that would answer
        health.prober.submit(connections.close_all).result()
    with django_db_blocker.unblock():
        teardown_databases(databases, verbosity=0)


def _copy_template(path: Path) -> None:
    """Makes a copy of the template the test database, which need not survive a power cut."""
    if MADE:
        shutil.copy(MADE, path)
    else:
        copy_migrated_sqlite(path)
    settings = connection.settings_dict
    settings["TEST"]["NAME"] = str(path)
    settings["OPTIONS"]["init_command"] = settings["OPTIONS"]["init_command"].replace("=FULL", "=OFF")


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    """Hashing a password costs a tenth of a second on purpose, which no test is about."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(scope="session", autouse=True)
def _database_travels_in_time_too() -> Iterator[None]:
    """While a test travels in time, the clock of PostgreSQL does so with it; its own stays where it is."""
    of_postgresql = clock._clock_of_postgresql

    def travelling() -> Statement:
        if escape_hatch.is_travelling():
            return "CAST(%s AS timestamptz)", [timezone.now()]
        return of_postgresql()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "_clock_of_postgresql", travelling)
        yield


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    """Each test is a worker that has just started."""
    cache.clear()


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of the server that `port` leads to."""
    return with_demo_ledger(f"sqlite:///{tmp_path_factory.mktemp('server')}/server.sqlite3")


@pytest.fixture(scope="session")
def port(environment: dict[str, str]) -> Iterator[int]:
    """Where the server that ships listens, with the demo ledger."""
    with serving(environment) as port:
        yield port


@pytest.fixture
def world(db: None) -> World:
    return make_world()


@pytest.fixture
def committed(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Real commits, for tests with threads or failing connections.

    Nothing is removed afterwards: reversals cannot be deleted, and every world has an org of its own.
    """
    with django_db_blocker.unblock():
        yield
        connections.close_all()


@pytest.fixture
def on_sqlite() -> None:
    """For what only a database in a file does."""
    if connection.vendor != "sqlite":
        pytest.skip("SQLite only; the run on SQLite has it")


@pytest.fixture
def on_postgresql() -> None:
    """For what SQLite has no notion of: row locks, several writers at once."""
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL only; the run on PostgreSQL has it")


@pytest.fixture
def count_queries() -> Callable[[Callable[[], object]], int]:
    """How many statements a call sends."""

    def count(call: Callable[[], object]) -> int:
        with CaptureQueriesContext(connection) as captured:
            call()
        return len(captured)

    return count
