"""Makes groups of customers and changes who is in them: the one way in for commands and the admin."""

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
    """The group of that number, made if there is none, with its name set and members added and removed.

    `add` and `remove` are customer ids (public). A customer is in one group at a time; who is added again or
    removed again stays as they are. Raises InvalidOperation on an unknown customer, one in another group, or one
    both added and removed; ValidationError on a wrong number or name.
    """
    if both := set(add) & set(remove):
        raise InvalidOperation(f"customer {min(both)} is both added and removed")
    customers = _customers(org, {*add, *remove})
    # Redemptions read who is in a group under the customers' locks.
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
    """Row ids by public id."""
    found = dict(Customer.objects.filter(org=org, public_id__in=public_ids).values_list("public_id", "id"))
    if missing := set(public_ids) - set(found):
        raise InvalidOperation(f"org {org.id} has no customer {min(missing)}")
    return found


def _add(group: CustomerGroup, current: GroupMember | None, public_id: int, customer_id: int) -> None:
    if current is None:
        GroupMember.objects.create(org_id=group.org_id, group=group, customer_id=customer_id, joined_at=timezone.now())
    elif current.group_id != group.id:
        raise InvalidOperation(f"customer {public_id} is in group {current.group.public_id}; remove them there first")
