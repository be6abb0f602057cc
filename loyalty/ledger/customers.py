"""Changes that staff make to a customer: the lock on reversals, and the status."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.ledger.locks import lock_customers
from loyalty.models import Customer
from loyalty.staff.audit import record_change

# The statuses that staff can set. A customer becomes MERGED only by a merge, and stays MERGED.
GIVEN_STATUSES = (Customer.Status.ACTIVE, Customer.Status.FRAUD, Customer.Status.DEACTIVATED)


def lock_reversals(customer: Customer, *, until: datetime | None, reason: str, made_by: str) -> Customer:
    """Locks reversals of the customer until the given time, or until a user unlocks them, and records the change.

    Replaces an existing lock. Raises InvalidOperation if the reason is missing, or `until` is not in the future.
    """
    if until is not None and until <= timezone.now():
        raise InvalidOperation(f"the lock would end at {until:%Y-%m-%d %H:%M} UTC; expected a time in the future")
    lock = {"reversals_locked": True, "reversals_locked_until": until, "reversals_lock_reason": reason.strip()}
    return _change_customer(customer, lock, action="locked reversals", reason=reason, made_by=made_by)


def unlock_reversals(customer: Customer, *, reason: str, made_by: str) -> Customer:
    """Unlocks reversals of the customer, and records the change.

    Raises InvalidOperation if the reason is missing, or reversals are not locked.
    """
    no_lock = {"reversals_locked": False, "reversals_locked_until": None, "reversals_lock_reason": ""}
    return _change_customer(customer, no_lock, action="unlocked reversals", reason=reason, made_by=made_by)


def set_status(customer: Customer, *, status: str, reason: str, made_by: str) -> Customer:
    """Changes the customer's status, and records the change.

    Raises InvalidOperation if the reason is missing, the status cannot be set or is set already, or the customer was
    merged into another.
    """
    if status not in GIVEN_STATUSES:
        raise InvalidOperation(f"the status is {status!r}; expected one of {', '.join(GIVEN_STATUSES)}")
    return _change_customer(customer, {"status": status}, action="changed status", reason=reason, made_by=made_by)


@transaction.atomic
def _change_customer(customer: Customer, values: dict[str, Any], *, action: str, reason: str, made_by: str) -> Customer:
    """Updates only these columns of the customer, under the lock that all movements of the customer's points take."""
    if not reason.strip():
        raise InvalidOperation("a change of a customer needs a reason")
    lock_customers(org_id=customer.org_id, ids=[customer.id])
    stored = Customer.objects.select_related("org").get(org_id=customer.org_id, id=customer.id)
    before = {name: getattr(stored, name) for name in values}
    if before == values:
        raise InvalidOperation("the customer has these values already; another user may have made this change")
    if "status" in values and stored.status == Customer.Status.MERGED:
        raise InvalidOperation("the customer was merged into another, so the status can no longer be changed")
    for name, value in values.items():
        setattr(stored, name, value)
    stored.save(force_update=True, update_fields=list(values))
    record_change(
        stored,
        org=stored.org,
        action=action,
        made_by=made_by,
        reason=reason.strip(),
        before=_as_stored(before),
        after=_as_stored(values),
    )
    return stored


def _as_stored(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values in the form in which a change record stores them."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
