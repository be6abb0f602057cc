"""Maintenance of the whole installation: while it is on, calls, pages and commands write nothing, on any server.

The last row of a table says whether it is on. A call reads it in the statement that looks up its caller, and once more
in the statement that writes. So a transaction that begins after maintenance was switched on writes nothing, and
`switch_on` waits for those that began earlier.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import DEFAULT_DB_ALIAS, Error, IntegrityError, connection
from django.db.models import Exists, Q
from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.ledger.distribution import is_distributed
from loyalty.models import Maintenance
from loyalty.request_id import current_request_id

# An SQL expression: whether maintenance is on.
IS_ON = "COALESCE((SELECT is_on FROM loyalty_maintenance ORDER BY id DESC LIMIT 1), FALSE)"
# In maintenance, a new attempt's value of this column is NULL, which the database refuses there.
GUARDED_COLUMN = "channel"
RETRY_AFTER_SECONDS = 30
POLL_SECONDS = 0.1

_WRITES = {"INSERT", "UPDATE", "DELETE"}


class UnderMaintenance(InvalidOperation):
    """Nothing was written, because maintenance is on."""

    def __init__(self) -> None:
        super().__init__("maintenance is on, so nothing was written; see the command maintenance")


@dataclass(frozen=True, slots=True)
class RunningTransaction:
    """A transaction that began before maintenance, and may still write."""

    pid: int
    began_at: datetime
    statement: str


def current() -> Maintenance | None:
    """Returns the row that switched maintenance on, or None while it is off. Reads the primary database."""
    last = Maintenance.objects.using(DEFAULT_DB_ALIAS).order_by("-id").first()
    return last if last is not None and last.is_on else None


def is_on() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {IS_ON}")
        return bool(cursor.fetchone()[0])


def is_off() -> Q:
    """Returns the condition of a query that maintenance is off."""
    last = Maintenance.objects.order_by("-id").values("id")[:1]
    return Q(~Exists(Maintenance.objects.filter(id__in=last, is_on=True)))


def guarded_value() -> str:
    """Returns the SQL expression of a new attempt's `GUARDED_COLUMN`, with a place for its value.

    In a cluster it is only the place, because a VALUES list cannot have a subquery there. The caller asks `is_on`.
    """
    return "%s" if is_distributed() else f"CASE WHEN {IS_ON} THEN NULL ELSE CAST(%s AS text) END"


def switch_on(*, reason: str, made_by: str, wait_seconds: float) -> tuple[Maintenance, list[RunningTransaction]]:
    """Switches maintenance on, and waits until the transactions that began earlier have ended.

    Returns the row that switched it on, and the transactions that are still running after `wait_seconds`. If
    maintenance is on already, waits again. Raises InvalidOperation without a reason.
    """
    row = current() or _switch(is_on=True, reason=reason, made_by=made_by)
    return row, _wait_for_earlier(wait_seconds)


def switch_off(*, reason: str, made_by: str) -> Maintenance:
    """Switches maintenance off. Raises InvalidOperation if it is off."""
    if current() is None:
        raise InvalidOperation("maintenance is off already")
    return _switch(is_on=False, reason=reason, made_by=made_by)


def _switch(*, is_on: bool, reason: str, made_by: str) -> Maintenance:
    if is_on and not reason.strip():
        raise InvalidOperation("maintenance needs a reason")
    row = Maintenance(is_on=is_on, reason=reason.strip(), made_by=made_by, made_at=timezone.now())
    row.request_id = current_request_id()
    row.clean_fields()
    row.save(force_insert=True)
    return row


def _wait_for_earlier(seconds: float) -> list[RunningTransaction]:
    """Waits for the transactions of this database that run now, and returns those that have not ended.

    On SQLite all earlier ones have ended, because a transaction takes the only write lock when it begins.
    """
    if connection.vendor != "postgresql":
        return []
    deadline = time.monotonic() + seconds
    earlier = _running()
    while earlier and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        still = {(each.pid, each.began_at) for each in _running()}
        earlier = [each for each in earlier if (each.pid, each.began_at) in still]
    return earlier


# The transactions of clients on any node of a cluster. Citus cancels and terminates by the global pid.
_OF_CLUSTER = (
    "global_pid, xact_start, left(query, 100) FROM citus_stat_activity WHERE NOT is_worker_query"
    " AND global_pid <> citus_backend_gpid()"
)
_OF_DATABASE = "pid, xact_start, left(query, 100) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"


def _running() -> list[RunningTransaction]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_OF_CLUSTER if is_distributed() else _OF_DATABASE} AND datname = current_database()"
            " AND backend_type = 'client backend' AND xact_start IS NOT NULL ORDER BY xact_start"
        )
        return [RunningTransaction(*row) for row in cursor.fetchall()]


def was_refused(error: Error) -> bool:
    """Returns whether the database refused a row because maintenance is on (`guarded_value`)."""
    if not isinstance(error, IntegrityError):
        return False
    # The error of another node of a cluster has no fields beside its message.
    message = str(error.__cause__)
    if connection.vendor != "postgresql":
        return message.startswith("NOT NULL constraint failed") and message.endswith(f".{GUARDED_COLUMN}")
    return message.startswith(f'null value in column "{GUARDED_COLUMN}"')


@contextmanager
def refusing_writes() -> Iterator[None]:
    """Raises UnderMaintenance for each write within the block while maintenance is on."""
    with connection.execute_wrapper(_refuse_write):
        yield


def _refuse_write(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    if sql.lstrip()[:6].upper() in _WRITES and is_on():
        raise UnderMaintenance
    return execute(sql, params, many, context)
