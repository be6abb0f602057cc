"""Counts by the minute over all workers and machines; what one worker learned of them stays in its own memory."""

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
    """What a count goes by in the table and in memory: a keyed hash, so that neither names a person or an address."""
    return keyed_digest(repr(names))


def current_minute() -> int:
    return int(time.time()) // SECONDS


def seconds_left() -> int:
    """How long the current minute still lasts, at least 1."""
    return SECONDS - int(time.time()) % SECONDS


def add(amounts: Mapping[str, int]) -> dict[str, int]:
    """Adds each amount to the count of its key in this minute and returns the counts.

    It commits on its own. Empty where the database cannot count now: a limit then lets pass, and whatever the call
    needs of the database decides its answer.
    """
    try:
        return _add(amounts)
    except DatabaseError as error:
        logger.warning("a limit was not counted: %s", error)
        return {}


def _add(amounts: Mapping[str, int]) -> dict[str, int]:
    minute = current_minute()
    # In one order, so that two workers cannot wait for each other.
    rows = [{"minute": minute, "key": key, "count": amounts[key]} for key in sorted(amounts)]
    sql, params = insert_into("loyalty_tally", *rows)
    with connection.cursor() as cursor:
        cursor.execute(
            f"{sql} ON CONFLICT (minute, key) DO UPDATE SET count = loyalty_tally.count + excluded.count"
            " RETURNING key, count",
            params,
        )
        counts = dict(cursor.fetchall())
        if any(counts[key] == amounts[key] for key in counts):  # the first of a minute clears away
            cursor.execute("DELETE FROM loyalty_tally WHERE minute < %s", [minute - KEPT_MINUTES])
    return counts
