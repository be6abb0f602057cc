"""Reads the database's clock, which decides what has expired, so that servers with different clocks agree."""

from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.utils import timezone

from loyalty.ledger.sql import Statement


def as_datetime(value: Any) -> datetime:
    """Converts a time from raw SQL: PostgreSQL returns datetimes, SQLite naive datetimes or text in UTC."""
    time: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def as_datetime_or_none(value: Any) -> datetime | None:
    return None if value is None else as_datetime(value)


def in_utc(time: datetime) -> datetime:
    """Converts a time with an offset to UTC. A time after the year 9999 in UTC becomes the last possible time.

    Raises ValueError for a time before the year 1 in UTC.
    """
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        if time.year == 1:
            raise ValueError("a time from the year 1 on") from error
        return datetime.max.replace(tzinfo=UTC)


def clock() -> Statement:
    """Returns the database's time as an SQL expression, which PostgreSQL evaluates when it reaches it.

    SQLite runs in this process, so its clock is this machine's clock.
    """
    if connection.vendor == "postgresql":
        return _clock_of_postgresql()
    return "%s", [connection.ops.adapt_datetimefield_value(timezone.now())]


def database_now() -> datetime:
    """Returns the database's time, for reads without a lock."""
    sql, params = clock()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}", params)
        return as_datetime(cursor.fetchone()[0])


def _clock_of_postgresql() -> Statement:
    return "clock_timestamp()", []
