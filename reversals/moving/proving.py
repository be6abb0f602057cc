"""Verifies the ledger of a moved org, without the time limits of a request."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from loyalty.errors import InvalidOperation
from loyalty.ledger import queries
from reversals.assurance.verification import broken_laws


@contextmanager
def one_long_moment() -> Iterator[None]:
    """Reads one snapshot, or in the caller's transaction, without the time limits of a request."""
    with queries.one_snapshot():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = 0")
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                cursor.execute("SET LOCAL lock_timeout = '60s'")  # seal_ledger may be running
        yield


def check_laws(org_id: int) -> None:
    """Checks every law as verify_ledger does. Raises InvalidOperation with the rows that break one."""
    broken = broken_laws(org_id)
    if broken:
        raise InvalidOperation(f"the ledger is broken: {'; '.join(map(str, broken))}")
