"""Merges two customers: moves everything that one has to the other, under the locks that movements take."""

from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.ledger.locks import lock_customers
from loyalty.models import Customer, CustomerIdentifier, CustomerMerge, GroupMember, Lot, Org, Redemption
from loyalty.staff.audit import record_change

MERGED = Customer.Status.MERGED


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge with the number of rows that it moved."""

    merge: CustomerMerge
    source: Customer
    target: Customer
    lots: int
    redemptions: int
    identifiers: int


@transaction.atomic
def merge_customers(*, org: Org, source_id: int, target_id: int, ticket: str, reason: str, made_by: str) -> Merged:
    """Merges the customer `source_id` into the customer `target_id` (public ids), and records who did it and why.

    Identifiers, lots, redemptions and group membership move to the target. The source gets the status MERGED and has
    nothing left but its customer id. Customers that were merged into the source follow. A membership moves only if the
    target is in no group.

    Raises InvalidOperation if the ticket, the reason or the username is missing, if the customers are the same or do
    not exist, if one of them was merged already, or if a block on the source (status, lock) would be lost by the merge.
    """
    ticket, reason, made_by = ticket.strip(), reason.strip(), made_by.strip()
    if not (ticket and reason and made_by):
        raise InvalidOperation("a merge needs a ticket, a reason and a username")
    if source_id == target_id:
        raise InvalidOperation(f"customer {source_id} cannot be merged into itself; give two different customers")
    source, target = _find(org, source_id), _find(org, target_id)
    lock_customers(org_id=org.id, ids=[source.id, target.id], against_new_rows=True)
    source.refresh_from_db()
    target.refresh_from_db()
    _check(source, target)
    merge = CustomerMerge(
        org=org, source=source, target=target, ticket=ticket, reason=reason, made_by=made_by, made_at=timezone.now()
    )
    merge.full_clean(exclude=["source", "target"], validate_constraints=False)
    merge.save(force_insert=True)
    merged = _move(merge, source, target)
    _record(merged)
    return merged


def _find(org: Org, public_id: int) -> Customer:
    customer = Customer.objects.filter(org=org, public_id=public_id).first()
    if customer is None:
        raise InvalidOperation(f"org {org.id} has no customer {public_id}")
    return customer


def _check(source: Customer, target: Customer) -> None:
    if source.merged_into_id is not None:
        survivor = Customer.objects.get(org_id=source.org_id, id=source.merged_into_id)
        raise InvalidOperation(f"customer {source} was merged into customer {survivor} already")
    if target.status == MERGED:
        raise InvalidOperation(f"customer {target} was merged into another customer; merge into that one")
    if source.erased_at is not None or target.erased_at is not None:
        raise InvalidOperation("the identity of one of the customers was erased; such a customer cannot be merged")
    blocked = source.status in {Customer.Status.FRAUD, Customer.Status.DEACTIVATED}
    if blocked and source.status != target.status:
        raise InvalidOperation(
            f"customer {source} has the status {source.status}, which would be lost; change one of the statuses first"
        )
    if _lock_ends(source) > _lock_ends(target):
        raise InvalidOperation(
            f"reversals of customer {source} are locked, for longer than those of customer {target}, which would be"
            " lost; unlock them first"
        )


def _lock_ends(customer: Customer) -> datetime:
    """Returns when the customer's reversals are no longer locked: now or before, if they are not locked."""
    if not customer.reversals_locked:
        return datetime.min.replace(tzinfo=UTC)
    until = customer.reversals_locked_until or datetime.max.replace(tzinfo=UTC)
    return until if until > timezone.now() else datetime.min.replace(tzinfo=UTC)


def _move(merge: CustomerMerge, source: Customer, target: Customer) -> Merged:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # A request's timeout is too short for a customer with many rows.
            cursor.execute("SET LOCAL statement_timeout = 0")
    org_id = merge.org_id
    identifiers = CustomerIdentifier.objects.filter(org_id=org_id, customer=source).update(customer=target)
    moved = {"customer": target, "first_customer": Coalesce(F("first_customer"), F("customer"))}
    redemptions = Redemption.objects.filter(org_id=org_id, customer=source).update(**moved)
    lots = Lot.objects.filter(org_id=org_id, customer=source).update(**moved)
    _move_membership(source, target)
    Customer.objects.filter(org_id=org_id, merged_into=source).update(merged_into=target)
    Customer.objects.filter(org_id=org_id, id=source.id).update(
        status=MERGED,
        merged_into=target,
        reversals_locked=False,
        reversals_locked_until=None,
        reversals_lock_reason="",
    )
    return Merged(merge, source, target, lots=lots, redemptions=redemptions, identifiers=identifiers)


def _move_membership(source: Customer, target: Customer) -> None:
    current = GroupMember.objects.filter(org_id=source.org_id, left_at__isnull=True)
    membership, now = current.filter(customer=source).first(), timezone.now()
    if membership is None:
        return
    GroupMember.objects.filter(org_id=source.org_id, id=membership.id).update(left_at=now)
    if not current.filter(customer=target).exists():
        GroupMember.objects.create(org_id=source.org_id, group_id=membership.group_id, customer=target, joined_at=now)


def _record(merged: Merged) -> None:
    """Records the merge in the history of both customers."""
    merge, source, target = merged.merge, merged.source, merged.target
    moved = {"lots": merged.lots, "redemptions": merged.redemptions, "identifiers": merged.identifiers}
    for customer, action, before, after in (
        (source, "merged", {"status": source.status}, {"status": MERGED, "merged_into": target.public_id}),
        (target, "received a merge", {}, {"merged_customer": source.public_id, **moved}),
    ):
        record_change(
            customer,
            org=merge.org,
            action=action,
            made_by=merge.made_by,
            reason=f"{merge.reason} (ticket {merge.ticket})",
            before=before,
            after=after,
        )
