"""Records when and from where each API secret was last used, exact to the hour, without delaying the call."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import Error, connection, transaction
from django.utils import timezone

from loyalty.ledger.distribution import is_distributed

logger = logging.getLogger(__name__)

KEPT_TO = timedelta(hours=1)


def note_use(secret_id: int, *, last_used_at: datetime | None, address: str | None) -> None:
    """Records that the secret is used now from the address, unless `last_used_at`, as just read, is within this hour.

    Commits immediately, before the call's own transaction. It waits for no lock and ignores errors: if the database is
    locked or read-only, a later call records its own time.
    """
    now = timezone.now()
    if last_used_at is not None and now - last_used_at < KEPT_TO:
        return
    try:
        with without_waiting():
            _store(secret_id, now, address)
    except Error as error:
        logger.info("the last use of an API secret was not recorded: %s", error)


def _store(secret_id: int, now: datetime, address: str | None) -> None:
    # If several calls run at once, the first one writes; the others find the row locked and skip it.
    skip_locked = "FOR NO KEY UPDATE SKIP LOCKED" if connection.vendor == "postgresql" else ""
    used_at, an_hour_ago = (connection.ops.adapt_datetimefield_value(time) for time in (now, now - KEPT_TO))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            UPDATE loyalty_apisecret SET last_used_at = %s, last_used_from = %s
             WHERE id = (SELECT secret.id FROM loyalty_apisecret secret
                          WHERE secret.id = %s AND (secret.last_used_at IS NULL OR secret.last_used_at <= %s)
                          {skip_locked})
            """,
            [used_at, address, secret_id, an_hour_ago],
        )


@contextmanager
def without_waiting() -> Iterator[None]:
    """Makes SQLite fail at once, instead of waiting for its single write lock, and a cluster after a tenth of a second.

    Note: a cluster locks the whole reference table for each change, so that no row can be skipped.
    """
    if is_distributed():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '100ms'")
            yield
        return
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        [milliseconds] = cursor.execute("PRAGMA busy_timeout").fetchone()
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {milliseconds}")
