"""Erases a customer's identifiers and the texts that contain one. The customer's points and history stay.

The ledger's tables, the personal data in them, and its erasure:

| table | personal data | erasure |
|---|---|---|
| customer | the lock's reason | erased if it contains an identifier; `erased_at` is set, the customer id stays |
| customer identifier | `value` | the rows are deleted |
| customer group | `name` | erased if it contains an identifier |
| staff change | `before`, `after`, `reason` | erased if they contain an identifier; the row stays |
| EMF change, customer merge | `reason` | replaced by its digest if found, so that its seal stays valid |
| org, program, EMF setting, reason code, API client and secret, webhook, org access, tally | no | unchanged |
| import, lot, redemption, draw, group member | no: reference numbers, points and times | unchanged |

A text contains an identifier if it contains the stored value in any case, or a mobile number without its country code.
Values of fewer than 6 characters are not searched for in texts, because they would match too many.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import phonenumbers
from django.db import connection, models
from django.db.models import Q, QuerySet
from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.ledger.customer_identifiers import CHANGED
from loyalty.ledger.identifiers import IdentifierType
from loyalty.ledger.locks import lock_customers
from loyalty.models import (
    Covering,
    Customer,
    CustomerGroup,
    CustomerIdentifier,
    CustomerMerge,
    EmfChange,
    Org,
    StaffChange,
)
from loyalty.privacy.erased import ERASED, erased
from loyalty.staff.audit import record_change

SHORTEST_SEARCH_VALUE = 6


@dataclass(frozen=True, slots=True)
class Texts:
    """Text columns of a table that may contain an identifier, and the replacement of such texts.

    In a sealed table the replacement contains the text's digest, so that the seal stays valid.
    """

    model: type[models.Model]
    columns: Sequence[str]
    replacement: object = ERASED
    is_sealed: bool = False

    def rows_containing(self, org_id: int, values: Collection[str]) -> Iterator[tuple[str, QuerySet[models.Model]]]:
        """Yields each column, with the org's rows whose text in it contains one of the values."""
        rows = self.model._default_manager.filter(org_id=org_id)
        for column in self.columns:
            holds = Q()
            for value in values:
                holds |= Q(**{f"{column}__icontains": value})
            yield column, rows.filter(holds)

    def erase(self, column: str, rows: QuerySet[models.Model]) -> int:
        """Replaces the column's texts in these rows, and returns their number."""
        if not self.is_sealed:
            return rows.update(**{column: self.replacement})
        texts = list(rows.values_list("id", column))
        return sum(
            self.model._default_manager.filter(id=row_id).update(**{column: erased(text)}) for row_id, text in texts
        )


_TEXTS = (
    Texts(Customer, ["reversals_lock_reason"]),
    Texts(CustomerGroup, ["name"]),
    Texts(StaffChange, ["reason"]),
    Texts(StaffChange, ["before", "after"], replacement={}),
    Texts(EmfChange, ["reason"], is_sealed=True),
    Texts(CustomerMerge, ["reason"], is_sealed=True),
    Texts(Covering, ["reason"], is_sealed=True),
)

_NOT_CHECKED = {field.name for field in StaffChange._meta.fields} - {"reason", "made_by"}


def find_customer(org: Org, public_id: int) -> Customer:
    """Returns the org's customer with this public id. Raises InvalidOperation if it does not exist."""
    try:
        return Customer.objects.get(org=org, public_id=public_id)
    except Customer.DoesNotExist:
        raise InvalidOperation(f"org {org.id} has no customer {public_id}") from None


def lock_to_erase(customer: Customer) -> list[CustomerIdentifier]:
    """Locks the customer and returns the identifiers to erase.

    Raises InvalidOperation if they were erased before, or if the customer was merged into another.

    Note: call this and the other functions in one transaction.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # A request's timeout is too short for a search of all texts of an org.
            cursor.execute("SET LOCAL statement_timeout = 0")
    lock_customers(org_id=customer.org_id, ids=[customer.id])
    customer.refresh_from_db()
    if customer.erased_at is not None:
        raise InvalidOperation(
            f"the identity of customer {customer.public_id} was erased on {customer.erased_at:%Y-%m-%d} already"
        )
    if customer.merged_into is not None:
        raise InvalidOperation(
            f"customer {customer} was merged into customer {customer.merged_into}, who has the identifiers; erase the"
            " identity of that one"
        )
    current = CustomerIdentifier.objects.filter(org_id=customer.org_id, customer=customer).order_by("type", "value")
    return [*current, *_former_identifiers(customer)]


def _changes_of_identifiers(customer: Customer) -> QuerySet[StaffChange]:
    """Returns the records of changed identifiers of the customer and of those who were merged into the customer."""
    merged = Customer.objects.filter(org_id=customer.org_id, merged_into=customer).values_list("id", flat=True)
    ids = [str(each) for each in (customer.id, *merged)]
    return StaffChange.objects.filter(subject=customer._meta.label_lower, subject_id__in=ids, action=CHANGED)


def _former_identifiers(customer: Customer) -> list[CustomerIdentifier]:
    """Returns the identifiers that staff changed, unless another customer has them now, as rows that are not stored."""
    former = {
        (kind, value)
        for change in _changes_of_identifiers(customer)
        for kind, value in change.before.items()
        if value is not None
    }
    return [
        CustomerIdentifier(org_id=customer.org_id, customer=customer, type=kind, value=value)
        for kind, value in sorted(former)
        if not CustomerIdentifier.objects.filter(org_id=customer.org_id, type=kind, value=value).exists()
    ]


def erase_identity(
    customer: Customer, identifiers: Sequence[CustomerIdentifier], *, ticket: str, reason: str, made_by: str
) -> int:
    """Erases the identity in the ledger's tables, records the change, and returns the number of erased texts.

    Raises InvalidOperation if the ticket, the reason or the name is missing or contains an identifier, and
    ValidationError if one is too long.
    """
    _check_record(identifiers, ticket=ticket, reason=reason, made_by=made_by)
    CustomerIdentifier.objects.filter(org_id=customer.org_id, id__in=[each.id for each in identifiers]).delete()
    count = erase_texts(_TEXTS, org_id=customer.org_id, identifiers=identifiers)
    count += _changes_of_identifiers(customer).exclude(before={}, after={}).update(before={}, after={})
    customer.erased_at = timezone.now()
    customer.save(update_fields=["erased_at"])
    record_change(
        customer,
        org=customer.org,
        action="erased identity",
        made_by=made_by.strip(),
        reason=f"{ticket.strip()}: {reason.strip()}",
        before={"identifiers": [each.type for each in identifiers]},
        after={"identifiers": []},
    )
    return count


def _check_record(identifiers: Sequence[CustomerIdentifier], *, ticket: str, reason: str, made_by: str) -> None:
    """Raises InvalidOperation if the record of the erasure is incomplete or contains an identifier."""
    for name, text in (("ticket", ticket), ("reason", reason), ("user name", made_by)):
        if not text.strip():
            raise InvalidOperation(f"erasing a customer's identity needs a {name}")
        if any(value.lower() in text.lower() for value in search_values(identifiers)):
            raise InvalidOperation(f"the {name} contains an identifier of the customer, and it would be kept forever")
    StaffChange(reason=f"{ticket}: {reason}", made_by=made_by).clean_fields(exclude=_NOT_CHECKED)


def erase_texts(texts: Sequence[Texts], *, org_id: int, identifiers: Sequence[CustomerIdentifier]) -> int:
    """Replaces each text of the org that contains one of the identifiers, and returns the number of replaced texts."""
    values = search_values(identifiers)
    if not values:
        return 0
    return sum(table.erase(column, rows) for table in texts for column, rows in table.rows_containing(org_id, values))


def search_values(identifiers: Sequence[CustomerIdentifier]) -> set[str]:
    """Returns the identifiers in the forms that a text may contain."""
    values = {each.value for each in identifiers}
    values |= {_without_country_code(each.value) for each in identifiers if each.type == IdentifierType.MOBILE}
    return {value for value in values if len(value) >= SHORTEST_SEARCH_VALUE}


def _without_country_code(digits: str) -> str:
    try:
        return str(phonenumbers.parse(f"+{digits}").national_number)
    except phonenumbers.NumberParseException:
        return digits
