"""Creates customer groups and changes their members, for commands and the admin."""

from collections.abc import Collection

from django.db import transaction
from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.ledger.locks import lock_customers
from loyalty.models import Customer, CustomerGroup, GroupMember, Org


@transaction.atomic
def set_group(
    *, org: Org, public_id: int, name: str | None = None, add: Collection[int] = (), remove: Collection[int] = ()
) -> CustomerGroup:
    """Creates the group if it is missing, sets its name, and adds and removes members. Returns the group.

    `add` and `remove` are public customer ids. Adding a member again, or removing a customer who is not a member, has
    no effect. Raises InvalidOperation for a customer who is unknown, is in another group (a customer can be in one
    group at a time), or is both added and removed. Raises ValidationError for an invalid number or name.
    """
    if both := set(add) & set(remove):
        raise InvalidOperation(f"customer {min(both)} is both added and removed")
    customers = _customers(org, {*add, *remove})
    # Redemptions read a group's members while they hold the customers' locks.
    lock_customers(org_id=org.id, ids=customers.values())
    group = CustomerGroup.objects.filter(org=org, public_id=public_id).first() or CustomerGroup(
        org=org, public_id=public_id
    )
    group.name = group.name if name is None else name.strip()
    group.full_clean()
    group.save()
    members = GroupMember.objects.filter(org=org, left_at__isnull=True).select_related("group")
    for number in remove:
        members.filter(group=group, customer_id=customers[number]).update(left_at=timezone.now())
    for number in add:
        _add(group, members.filter(customer_id=customers[number]).first(), number, customers[number])
    return group


def _customers(org: Org, public_ids: Collection[int]) -> dict[int, int]:
    """Returns the customers' row ids by public id. Raises InvalidOperation for an unknown customer."""
    found = dict(Customer.objects.filter(org=org, public_id__in=public_ids).values_list("public_id", "id"))
    if missing := set(public_ids) - set(found):
        raise InvalidOperation(f"org {org.id} has no customer {min(missing)}")
    return found


def _add(group: CustomerGroup, current: GroupMember | None, public_id: int, customer_id: int) -> None:
    if current is None:
        GroupMember.objects.create(org_id=group.org_id, group=group, customer_id=customer_id, joined_at=timezone.now())
    elif current.group_id != group.id:
        group_id = current.group.public_id
        raise InvalidOperation(f"customer {public_id} is in group {group_id}; remove the customer from it first")
