"""The proof that an org's ledger is sound, and the time that a look at all its rows may take."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from loyalty.errors import InvalidOperation
from loyalty.ledger import queries
from reversals.assurance.verification import broken_laws


@contextmanager
def one_long_moment() -> Iterator[None]:
    """All is read as of one moment, or in the caller's transaction, and without the limits of a request."""
    with queries.one_moment():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = 0")
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                cursor.execute("SET LOCAL lock_timeout = '60s'")  # a seal may be under way
        yield


def check_laws(org_id: int) -> None:
    """Checks every law of the org's ledger, as verify_ledger does. Refuses a broken one, with its rows."""
    broken = broken_laws(org_id)
    if broken:
        raise InvalidOperation(f"the ledger is broken: {'; '.join(map(str, broken))}")
