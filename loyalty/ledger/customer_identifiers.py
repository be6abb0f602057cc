"""Changes that staff make to a customer's identifiers, with their history."""

from django.db import IntegrityError, transaction

from loyalty.errors import InvalidOperation
from loyalty.ledger.canonical import canonical
from loyalty.ledger.identifiers import IdentifierType, identify, storable
from loyalty.ledger.locks import lock_customers
from loyalty.models import Customer, CustomerIdentifier, StaffChange
from loyalty.staff.audit import record_change

CHANGED, NEW = "changed an identifier", ""

_NOT_CHECKED = {field.name for field in StaffChange._meta.fields} - {"reason", "made_by"}


@transaction.atomic
def set_identifier(
    customer: Customer,
    *,
    kind: IdentifierType,
    value: str,
    ticket: str,
    reason: str,
    made_by: str,
    replaces: str | None = None,
) -> StaffChange:
    """Changes, adds or removes (empty `value`) an identifier of the customer, and records the change.

    `replaces` is the value to change, or NEW for a further one. None changes the only identifier of this type, or adds
    the first one. Raises InvalidOperation, with what to do, if the change is not possible, and ValidationError if a
    text is too long.
    """
    if not (ticket.strip() and reason.strip() and made_by.strip()):
        raise InvalidOperation("a change of an identifier needs a ticket, a reason and a username")
    why = f"{ticket.strip()}: {reason.strip()}"
    StaffChange(reason=why, made_by=made_by.strip()).clean_fields(exclude=_NOT_CHECKED)
    if kind is IdentifierType.ID:
        raise InvalidOperation("the customer id cannot be changed; expected another type of identifier")
    lock_customers(org_id=customer.org_id, ids=[customer.id])
    customer.refresh_from_db()
    _check_customer(customer)
    current = _current(customer, kind, replaces)
    before = current.value if current is not None else None
    after = _new_value(customer, kind, value)
    if before == after:
        raise InvalidOperation(
            f"customer {customer} has this {kind} already" if after else f"customer {customer} has no {kind} to remove"
        )
    _store(customer, kind, current, after)
    return record_change(
        customer,
        org=customer.org,
        action=CHANGED,
        made_by=made_by.strip(),
        reason=why,
        before={kind.value: before},
        after={kind.value: after},
    )


def _check_customer(customer: Customer) -> None:
    if customer.erased_at is not None:
        raise InvalidOperation(f"the identity of customer {customer} was erased, so identifiers cannot be changed")
    if customer.merged_into is not None:
        raise InvalidOperation(
            f"customer {customer} was merged into customer {customer.merged_into}; change the identifiers of that one"
        )


def _current(customer: Customer, kind: IdentifierType, replaces: str | None) -> CustomerIdentifier | None:
    """Returns the identifier to change, or None to add one."""
    if replaces == NEW:
        return None
    stored = CustomerIdentifier.objects.filter(org_id=customer.org_id, customer=customer, type=kind)
    if replaces is not None:
        old = identify(kind, replaces, country=customer.org.country).value
        named = stored.filter(value__in=[replaces, old]).first()
        if named is None:
            raise InvalidOperation(f"customer {customer} has no such {kind} to change")
        return named
    all_of_type = list(stored[:2])
    if len(all_of_type) > 1:
        raise InvalidOperation(f"customer {customer} has several identifiers of type {kind}; say which one, with --old")
    return all_of_type[0] if all_of_type else None


def _new_value(customer: Customer, kind: IdentifierType, value: str) -> str | None:
    if not canonical(value):
        return None
    try:
        return storable(kind, value, country=customer.org.country).value
    except ValueError as error:
        raise InvalidOperation(f"{kind}: expected {error}") from error


def _store(customer: Customer, kind: IdentifierType, current: CustomerIdentifier | None, value: str | None) -> None:
    if value is None:
        if current is not None:
            current.delete()
        return
    owner = CustomerIdentifier.objects.filter(org_id=customer.org_id, type=kind, value=value).first()
    if owner is not None:
        raise InvalidOperation(_clash(kind, owner))
    row = current or CustomerIdentifier(org_id=customer.org_id, customer=customer, type=kind)
    row.value = value
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError as error:
        # Another customer got the identifier after the look-up.
        taken = CustomerIdentifier.objects.filter(org_id=customer.org_id, type=kind, value=value).first()
        raise InvalidOperation(_clash(kind, taken)) from error


def _clash(kind: IdentifierType, owner: CustomerIdentifier | None) -> str:
    name = f"customer {owner.customer}" if owner is not None else "another customer"
    return (
        f"{name} has this {kind} already; remove it there first if it is wrong there, or merge the two customers if"
        " they are one person"
    )
