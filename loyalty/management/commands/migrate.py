"""Django's `migrate`, which on PostgreSQL applies migrations while the old version serves."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import OperationalError, connections

from loyalty.management import migrating

# Django's command has no other place to say which executor it uses.
migrate.MigrationExecutor = migrating.LiveExecutor  # type: ignore[attr-defined]


class Command(migrate.Command):
    """Refuses a pooler, uses timeouts of its own, and repeats what did not get a lock."""

    def handle(self, *args: Any, **options: Any) -> None:
        connection = connections[options["database"]]
        try:
            if connection.vendor != "postgresql":
                super().handle(*args, **options)
                return
            migrating.refuse_pooler(connection, is_declared=settings.DATABASE_POOLER)
            with migrating.live_session(connection):
                super().handle(*args, **options)
                migrating.Progress(connection).remove_if_empty()
        except OperationalError as error:
            if migrating.is_conflict(error):
                raise CommandError("another transaction held a lock for too long; run migrate again") from error
            if "database is locked" in str(error):
                raise CommandError(
                    "another process writes to the SQLite file; stop the server, or run migrate again when it is quiet"
                ) from error
            raise
