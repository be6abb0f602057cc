"""What staff may change of a customer: the lock on reversals, and the status."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.ledger.locks import lock_customers
from loyalty.models import Customer
from loyalty.staff.audit import record_change

# What staff can make of a customer; a merged one is made by merging, and stays so.
GIVEN_STATUSES = (Customer.Status.ACTIVE, Customer.Status.FRAUD, Customer.Status.DEACTIVATED)


def lock_reversals(customer: Customer, *, until: datetime | None, reason: str, made_by: str) -> Customer:
    """Locks reversals of the customer until then, or until they are unlocked, and keeps who and why.

    Who is locked already is locked anew. Raises InvalidOperation without a reason, or if `until` is not in the future.
    """
    if until is not None and until <= timezone.now():
        raise InvalidOperation(f"the lock would end at {until:%Y-%m-%d %H:%M} UTC; expected a time in the future")
    lock = {"reversals_locked": True, "reversals_locked_until": until, "reversals_lock_reason": reason.strip()}
    return _change_customer(customer, lock, action="locked reversals", reason=reason, made_by=made_by)


def unlock_reversals(customer: Customer, *, reason: str, made_by: str) -> Customer:
    """Lets the customer's redemptions be reversed again, and keeps who and why.

    Raises InvalidOperation without a reason, or if they are not locked.
    """
    no_lock = {"reversals_locked": False, "reversals_locked_until": None, "reversals_lock_reason": ""}
    return _change_customer(customer, no_lock, action="unlocked reversals", reason=reason, made_by=made_by)


def set_status(customer: Customer, *, status: str, reason: str, made_by: str) -> Customer:
    """Gives the customer another status, and keeps who and why.

    Raises InvalidOperation without a reason, for a status that is not given by hand or is theirs already, and of a
    customer who was merged away.
    """
    if status not in GIVEN_STATUSES:
        raise InvalidOperation(f"the status is {status!r}; expected one of {', '.join(GIVEN_STATUSES)}")
    return _change_customer(customer, {"status": status}, action="changed status", reason=reason, made_by=made_by)


@transaction.atomic
def _change_customer(customer: Customer, values: dict[str, Any], *, action: str, reason: str, made_by: str) -> Customer:
    """Writes only these columns of the customer, under the lock that all movements of their points take."""
    if not reason.strip():
        raise InvalidOperation("a change of a customer needs a reason")
    lock_customers(org_id=customer.org_id, ids=[customer.id])
    stored = Customer.objects.select_related("org").get(org_id=customer.org_id, id=customer.id)
    before = {name: getattr(stored, name) for name in values}
    if before == values:
        raise InvalidOperation("the customer is so already; somebody may have changed it meanwhile")
    if "status" in values and stored.status == Customer.Status.MERGED:
        raise InvalidOperation("the customer was merged away; the status of such a customer stays")
    for name, value in values.items():
        setattr(stored, name, value)
    stored.save(force_update=True, update_fields=list(values))
    record_change(
        stored,
        org=stored.org,
        action=action,
        made_by=made_by,
        reason=reason.strip(),
        before=_as_kept(before),
        after=_as_kept(values),
    )
    return stored


def _as_kept(values: dict[str, Any]) -> dict[str, Any]:
    """The values as the record of a change keeps them."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
