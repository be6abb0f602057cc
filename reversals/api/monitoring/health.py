"""Tells whether this server can do its work: whether the database answers, can be written, and is migrated."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor

SECONDS = 2

# A thread and a connection of its own: a database that fell silent holds up this thread, and not who asks.
prober = ThreadPoolExecutor(1, "health")


class NotReady(Exception):
    """The server cannot do its work; the message says why, without a secret."""


def check() -> None:
    """Raises NotReady. It takes 2 s at most."""
    probe = prober.submit(_check)
    try:
        probe.result(timeout=SECONDS)
    except TimeoutError as error:
        probe.cancel()
        raise NotReady(f"the database did not answer within {SECONDS} s") from error


def _check() -> None:
    try:
        if connection.connection is not None and not connection.is_usable():
            connection.close()  # it was kept from before a restart of the database
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


@cache  # once they are applied they stay so; an exception is not cached
def check_migrations() -> None:
    """Raises NotReady where the database is behind the code."""
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        raise NotReady(f"{len(missing)} migrations are not applied; run manage.py migrate")
