"""Counters per minute in the database, shared by all workers and machines."""

import logging
import time
from collections.abc import Mapping

from django.db import DatabaseError, connection

from loyalty.clients.credentials import keyed_digest
from loyalty.ledger.sql import insert_into

logger = logging.getLogger(__name__)

SECONDS = 60
KEPT_MINUTES = 24 * 60


def key_of(*names: object) -> str:
    """Returns the key of a counter: a keyed hash, so that neither database nor memory holds usernames or addresses."""
    return keyed_digest(repr(names))


def current_minute() -> int:
    return int(time.time()) // SECONDS


def seconds_left() -> int:
    """Returns the seconds until the current minute ends, at least 1."""
    return SECONDS - int(time.time()) % SECONDS


def add(amounts: Mapping[str, int]) -> dict[str, int]:
    """Adds each amount to the counter of its key in this minute and returns the new counts. Commits immediately.

    Returns no counts if the database fails. The call then proceeds, because the database's own error is more useful
    than a refusal by a limit.
    """
    try:
        return _add(amounts)
    except DatabaseError as error:
        logger.warning("a rate limit could not be updated: %s", error)
        return {}


def _add(amounts: Mapping[str, int]) -> dict[str, int]:
    minute = current_minute()
    # In one order, so that two workers cannot deadlock.
    rows = [{"minute": minute, "key": key, "count": amounts[key]} for key in sorted(amounts)]
    sql, params = insert_into("loyalty_tally", *rows)
    with connection.cursor() as cursor:
        cursor.execute(
            f"{sql} ON CONFLICT (minute, key) DO UPDATE SET count = loyalty_tally.count + excluded.count"
            " RETURNING key, count",
            params,
        )
        counts = dict(cursor.fetchall())
        if any(counts[key] == amounts[key] for key in counts):  # the first count of a minute deletes old counts
            cursor.execute("DELETE FROM loyalty_tally WHERE minute < %s", [minute - KEPT_MINUTES])
    return counts
