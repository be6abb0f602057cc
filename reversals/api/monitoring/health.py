"""Checks whether this server is ready: the database answers, can be written to, and has all migrations."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor

SECONDS = 2

# The check has a separate thread and connection, so that a database that hangs does not block the caller.
prober = ThreadPoolExecutor(1, "health")


class NotReady(Exception):
    """The server is not ready. The message gives the reason and contains no secrets."""


def check() -> None:
    """Raises NotReady if the server is not ready. Takes 2 s at most."""
    probe = prober.submit(_check)
    try:
        probe.result(timeout=SECONDS)
    except TimeoutError as error:
        probe.cancel()
        raise NotReady(f"the database did not answer within {SECONDS} s") from error


def _check() -> None:
    try:
        if connection.connection is not None and not connection.is_usable():
            connection.close()  # the database has restarted since it was opened
        if not _is_writable():
            raise NotReady("the database is read-only")
        check_migrations()
    except (DatabaseError, InterfaceError) as error:
        connection.close()
        raise NotReady("the database does not answer") from error


def _is_writable() -> bool:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT current_setting('transaction_read_only') = 'off'")
            return bool(cursor.fetchone()[0])
        cursor.execute("SELECT 1")
    name = settings.DATABASES["default"]["NAME"]
    return name == ":memory:" or os.access(name, os.W_OK)


@cache  # applied migrations stay applied, and exceptions are not cached
def check_migrations() -> None:
    """Raises NotReady if the database lacks migrations."""
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        count = f"{len(missing)} {'migration is' if len(missing) == 1 else 'migrations are'}"
        raise NotReady(f"{count} not applied. Run manage.py migrate.")
