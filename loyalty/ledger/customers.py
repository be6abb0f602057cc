"""Changes that staff make to a customer: the lock on reversals, and the status."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import CharField, Q
from django.db.models.functions import Cast
from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.ledger.locks import lock_customers
from loyalty.models import Customer, StaffChange
from loyalty.staff.audit import record_change

# The statuses that staff can set. A customer becomes MERGED only by a merge, and stays MERGED.
GIVEN_STATUSES = (Customer.Status.ACTIVE, Customer.Status.FRAUD, Customer.Status.DEACTIVATED)

# Statuses that usually block reversals. Only users with a right of its own may change them, and each change is recorded
# as this action.
BLOCKING_STATUSES = (Customer.Status.FRAUD, Customer.Status.DEACTIVATED)
LIFT = "loyalty.lift_status"
LIFTED = "lifted status"


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


def set_status(customer: Customer, *, status: str, reason: str, made_by: str, may_lift: bool = False) -> Customer:
    """Changes the customer's status, and records the change.

    Raises InvalidOperation if the reason is missing, the status cannot be set or is set already, the customer was
    merged into another, or the status is FRAUD or DEACTIVATED and the user may not lift it.
    """
    if status not in GIVEN_STATUSES:
        raise InvalidOperation(f"the status is {status!r}; expected one of {', '.join(GIVEN_STATUSES)}")
    return _change_customer(
        customer, {"status": status}, action="changed status", reason=reason, made_by=made_by, may_lift=may_lift
    )


def has_lifted_status(customer_id: int, *, org_id: int, user: str, since: datetime) -> bool:
    """Returns whether the user lifted FRAUD or DEACTIVATED of the customer, or of one merged into them, since then."""
    customers = Customer.objects.filter(Q(id=customer_id) | Q(merged_into_id=customer_id), org_id=org_id)
    lifted = StaffChange.objects.filter(
        subject=Customer._meta.label_lower,
        subject_id__in=customers.values(text=Cast("id", CharField(max_length=64))),
        made_at__gt=since,
        made_by=user,
        action=LIFTED,
    )
    return lifted.exists()


@transaction.atomic
def _change_customer(
    customer: Customer, values: dict[str, Any], *, action: str, reason: str, made_by: str, may_lift: bool = False
) -> Customer:
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
    if "status" in values and stored.status in BLOCKING_STATUSES:
        if not may_lift:
            raise InvalidOperation(
                f"the status is {stored.status}, which only a user with the right to lift it can change"
            )
        action = LIFTED
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
