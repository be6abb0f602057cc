"""The clock that decides what has expired: the database's, so that servers whose own clocks differ agree."""

from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.utils import timezone

from loyalty.ledger.sql import Statement


def as_datetime(value: Any) -> datetime:
    """A time of a hand-written statement: PostgreSQL gives datetimes, SQLite naive ones or text, in UTC."""
    time: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def as_datetime_or_none(value: Any) -> datetime | None:
    return None if value is None else as_datetime(value)


def clock() -> Statement:
    """The database's time as a value within another statement, read when PostgreSQL evaluates it.

    SQLite runs within this process, so its clock is this machine's.
    """
    if connection.vendor == "postgresql":
        return _clock_of_postgresql()
    return "%s", [connection.ops.adapt_datetimefield_value(timezone.now())]


def database_now() -> datetime:
    """The database's time, for those who read without a lock."""
    sql, params = clock()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}", params)
        return as_datetime(cursor.fetchone()[0])


def _clock_of_postgresql() -> Statement:
    return "clock_timestamp()", []
