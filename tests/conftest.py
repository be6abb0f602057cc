"""Fixtures for all tests."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection, connections
from django.dispatch import receiver
from django.test.client import ClientHandler
from django.test.signals import setting_changed
from django.test.utils import CaptureQueriesContext, override_settings, setup_databases, teardown_databases
from django.utils import timezone
from time_machine import escape_hatch

from loyalty.ledger import clock
from loyalty.ledger.distribution import is_distributed
from loyalty.ledger.sql import Statement
from reversals.api.monitoring import health
from tests.builders import World, make_world
from tests.serving import serving, with_demo_ledger
from tests.templates import copy_migrated_sqlite, migrated_postgresql

# A migrated SQLite file to use instead of the template, because the code differs in each run (tests/mutation.py).
MADE = os.environ.get("TEST_DATABASE_MADE")

# Whether to use the database of DATABASE_URL itself, which is distributed over a cluster (tests/cluster.py).
KEPT = bool(os.environ.get("TEST_DATABASE_KEPT"))


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Creates the test database, even if only tests that commit run; pytest-django does not count those."""
    if KEPT:
        yield
        health.prober.submit(connections.close_all).result()
        return
    if connection.vendor == "sqlite":
        _copy_template(tmp_path_factory.mktemp("database") / "test.sqlite3")
    else:
        connection.settings_dict["TEST"]["TEMPLATE"] = migrated_postgresql(os.environ["DATABASE_URL"])
    with django_db_blocker.unblock():
        databases = setup_databases(verbosity=0, interactive=False, keepdb=connection.vendor == "sqlite")
        is_distributed()  # asks the database once in a process, which a test that counts queries must not see
    yield
    if not MADE:  # otherwise in a fork, where the thread of the prober does not exist
        health.prober.submit(connections.close_all).result()
    with django_db_blocker.unblock():
        teardown_databases(databases, verbosity=0)


def _copy_template(path: Path) -> None:
    """Uses a copy of the template as the test database; it need not survive a power cut."""
    if MADE:
        shutil.copy(MADE, path)
    else:
        copy_migrated_sqlite(path)
    settings = connection.settings_dict
    settings["TEST"]["NAME"] = str(path)
    settings["OPTIONS"]["init_command"] = settings["OPTIONS"]["init_command"].replace("=FULL", "=OFF")


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    """Replaces the password hasher, which takes a tenth of a second on purpose, by a fast one."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


_middleware: dict[str, Any] = {}


@receiver(setting_changed)
def _load_middleware_again(**_: Any) -> None:
    _middleware.clear()


@pytest.fixture(scope="session", autouse=True)
def _middleware_is_shared() -> Iterator[None]:
    """Loads the middleware once, because loading reads every static file and takes longer than most requests."""
    load = ClientHandler.load_middleware

    def load_once(handler: ClientHandler) -> None:
        if not _middleware:
            load(handler)
            _middleware.update((name, value) for name, value in vars(handler).items() if "middleware" in name)
        vars(handler).update(_middleware)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientHandler, "load_middleware", load_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _database_travels_in_time_too() -> Iterator[None]:
    """While a test travels in time, the application gets the test's time instead of PostgreSQL's."""
    of_postgresql = clock._clock_of_postgresql

    def travelling() -> Statement:
        if escape_hatch.is_travelling():
            return "CAST(%s AS timestamptz)", [timezone.now()]
        return of_postgresql()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "_clock_of_postgresql", travelling)
        yield


@pytest.fixture(autouse=True)
def _clear_cache() -> None:
    """Clears the cache, so that each test runs as in a worker that has just started."""
    cache.clear()


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the server at `port`."""
    return with_demo_ledger(f"sqlite:///{tmp_path_factory.mktemp('server')}/server.sqlite3")


@pytest.fixture(scope="session")
def port(environment: dict[str, str]) -> Iterator[int]:
    """The port of the server as it ships, with the demo ledger."""
    with serving(environment) as port:
        yield port


@pytest.fixture
def world(db: None) -> World:
    return make_world()


@pytest.fixture
def committed(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Allows real commits, for tests with threads or failing connections.

    Nothing is removed afterwards, because reversals cannot be deleted and every world has its own org.
    """
    with django_db_blocker.unblock():
        yield
        connections.close_all()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuses a test that would never run: `once` keeps it from PostgreSQL, and it skips itself on SQLite."""
    for item in items:
        if item.get_closest_marker("once") and "on_postgresql" in getattr(item, "fixturenames", ()):
            raise pytest.UsageError(f"{item.nodeid} is marked `once` and needs PostgreSQL, so it would never run")


@pytest.fixture
def on_sqlite() -> None:
    """Skips the test on PostgreSQL, if it needs a database in a file."""
    if connection.vendor != "sqlite":
        pytest.skip("needs SQLite; the run on SQLite includes this test")


@pytest.fixture
def on_postgresql() -> None:
    """Skips the test on SQLite, if it needs row locks or several concurrent writers."""
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL; the run on PostgreSQL includes this test")


@pytest.fixture
def not_on_cluster() -> None:
    """Skips the test on a Citus cluster, if it is about a database that is not distributed."""
    if KEPT:
        pytest.skip("needs a database that is not distributed; the runs on SQLite and PostgreSQL include this test")


@pytest.fixture
def on_cluster() -> None:
    """Skips the test unless the database is distributed over a Citus cluster (tests/cluster.py)."""
    if not KEPT:
        pytest.skip("needs a Citus cluster; make cluster includes this test")


@pytest.fixture
def count_queries() -> Callable[[Callable[[], object]], int]:
    """Returns a function that counts the SQL statements of a call."""

    def count(call: Callable[[], object]) -> int:
        with CaptureQueriesContext(connection) as captured:
            call()
        return len(captured)

    return count
