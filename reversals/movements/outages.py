"""Recognises temporary failures of the database, and maps each to a refusal."""

from django.db import Error, IntegrityError, InterfaceError, OperationalError

from loyalty.moves import is_of_closed_org
from reversals.refusals import ErrorCode, Refused

# PostgreSQL's SQLSTATE: lock timeout, statement timeout; deadlock, serialization failure.
_LOCK_TIMEOUT = "55P03"
_QUERY_CANCELED = "57014"
_RETRIED = {"40P01", "40001"}
# Read-only, too many connections, starting up or shutting down, not reachable.
_CANNOT_BE_USED = {"25006", "53300", "57P03", "08001", "08004", "3D000", "28000", "28P01"}

# Constraints that a concurrent transaction can violate: both drew the same random id, or both used the same reference
# number, which the next try then finds.
_CLASHES = ("_pkey", "public_id_unique", "reversal_append_only", "redemption_external_reference_unique")

_SQLITE_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_SQLITE_CANNOT_BE_USED = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_NOTADB", "SQLITE_AUTH")
_SQLITE_FAILED = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOMEM")


class PublicIdTaken(IntegrityError):
    """The public id that was drawn for a new row is already in use."""


def is_lock_timeout(error: Error) -> bool:
    """Whether PostgreSQL stopped waiting for a lock, or for several locks that together took too long."""
    if sqlstate_of(error) == _QUERY_CANCELED:
        context = getattr(getattr(error.__cause__, "diag", None), "context", None) or ""
        return "while locking tuple" in context
    return sqlstate_of(error) == _LOCK_TIMEOUT


def is_retryable(error: Error) -> bool:
    """Whether the same transaction may succeed if tried again immediately: after a deadlock or a clash of ids."""
    if isinstance(error, PublicIdTaken):
        return True
    if isinstance(error, IntegrityError):
        constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None) or str(error)
        return constraint.endswith(_CLASHES)
    return sqlstate_of(error) in _RETRIED


def refusal_for(error: Error, *, during_movement: bool) -> Refused | None:
    """The refusal for the error; None if it is not an outage but a fault of this program.

    898 if the database cannot be reached or written to, or the org is closed. 896 if it is busy. 886 if it failed
    during the movement.
    """
    if is_of_closed_org(error):
        return Refused(
            ErrorCode.UNAVAILABLE,
            "The org is being moved. Send the request again later to the same host, with the same Idempotency-Key.",
            staff_reason="The org is being moved. Try again later at the same address.",
        )
    sqlstate, sqlite = sqlstate_of(error), getattr(error.__cause__, "sqlite_errorname", "")
    if is_lock_timeout(error) or sqlstate in _RETRIED or sqlite.startswith(_SQLITE_BUSY):
        return Refused(ErrorCode.BUSY, "Another request for this customer is running. Try again in a moment.")
    if sqlstate in _CANNOT_BE_USED or sqlite.startswith(_SQLITE_CANNOT_BE_USED):
        return _unavailable()
    if sqlite and not sqlite.startswith(_SQLITE_FAILED):
        return None
    is_outage = isinstance(error, OperationalError | InterfaceError) or sqlstate[:2] in {"08", "53", "57", "58", "XX"}
    if not is_outage:
        return None
    if not during_movement:
        return _unavailable()
    return Refused(
        ErrorCode.DATABASE_FAILED,
        "The database failed. Send the request again with the same Idempotency-Key, so that points move only once.",
        staff_reason="The database failed. Before you try again, check whether the points have moved.",
    )


def _unavailable() -> Refused:
    return Refused(ErrorCode.UNAVAILABLE, "The database cannot be reached or written to. Try again later.")


def sqlstate_of(error: Error) -> str:
    """PostgreSQL's code for the error; empty if it has none."""
    return getattr(error.__cause__, "sqlstate", None) or ""
