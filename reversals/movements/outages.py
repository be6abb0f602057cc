"""Recognises temporary failures of the database, and maps each to a refusal."""

from django.db import Error, IntegrityError

from loyalty import maintenance
from loyalty.outages import Outage, constraint_of, note_outage, outage_of, sqlstate_of
from reversals.refusals import ErrorCode, Refused

# Deadlock, serialization failure, and a prepared statement whose table a migration changed.
_RETRIED = {"40P01", "40001", "0A000"}

# Constraints that a concurrent transaction can violate: both drew the same random id, or both used the same reference
# number, which the next try then finds.
_CLASHES = ("_pkey", "public_id_unique", "reversal_append_only", "redemption_external_reference_unique")


class PublicIdTaken(IntegrityError):
    """The public id that was drawn for a new row is already in use."""


def is_retryable(error: Error) -> bool:
    """Whether the same transaction may succeed if tried again immediately: after a deadlock or a clash of ids."""
    if isinstance(error, PublicIdTaken):
        return True
    if isinstance(error, IntegrityError):
        return constraint_of(error).endswith(_CLASHES)
    return sqlstate_of(error) in _RETRIED


def refusal_for(error: Error, *, during_movement: bool) -> Refused | None:
    """The refusal for the error; None if it is not an outage but a fault of this program.

    898 if the database cannot be reached or written to, or maintenance is on. 896 if it is busy.
    886 if it failed during the movement.
    """
    if maintenance.was_refused(error):
        return under_maintenance()
    outage = outage_of(error)
    if outage is None:
        return None
    if outage is Outage.BUSY:
        return Refused(ErrorCode.BUSY, "Another request for this customer is running. Try again in a moment.")
    note_outage(error)
    if outage is Outage.UNAVAILABLE or not during_movement:
        return _unavailable()
    return _failed()


def of_unknown_outcome(error: Error) -> Refused:
    """The refusal if COMMIT failed with the error, and whether it happened cannot be looked up: 886."""
    note_outage(error)
    return _failed()


def under_maintenance() -> Refused:
    """The refusal of a movement while maintenance is on."""
    return Refused(
        ErrorCode.UNAVAILABLE,
        "Maintenance is in progress. Send the request again after Retry-After, with the same Idempotency-Key.",
        staff_reason="Maintenance is in progress, so nothing was changed. Try again when it has ended.",
    )


def _failed() -> Refused:
    return Refused(
        ErrorCode.DATABASE_FAILED,
        "The database failed. Send the request again with the same Idempotency-Key, so that points move only once.",
        staff_reason="The database failed. Before you try again, check whether the points have moved.",
    )


def _unavailable() -> Refused:
    return Refused(ErrorCode.UNAVAILABLE, "The database cannot be reached or written to. Try again later.")
