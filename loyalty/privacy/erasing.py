"""Erases who a customer is: their identifiers, and the texts that hold one. Their points and their history stay.

What the ledger's tables keep of a customer, and what becomes of it:

| table | identity in it | what becomes of it |
|---|---|---|
| customer | the lock's reason | erased where it holds an identifier; `erased_at` is set, the customer id stays |
| customer identifier | `value` | the rows are deleted |
| customer group | `name` | erased where it holds an identifier |
| staff change | `before`, `after`, `reason` | erased where they hold an identifier: the change itself stays |
| EMF change | `reason` | where it holds one, its digest takes its place, so that its seal still holds |
| org, program, EMF setting, reason code, API client and secret, webhook, org access, tally | none | stay |
| import, lot, redemption, draw, group member | none: the business's numbers, points and times | stay |

A text is recognised by the identifier's value as it is stored, or of a mobile also without its country code, in any
case of its letters. Values of fewer than six characters are not looked for in texts: they would be found everywhere.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import phonenumbers
from django.db import connection, models
from django.db.models import Q, QuerySet
from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.ledger.identifiers import IdentifierType
from loyalty.ledger.locks import lock_customers
from loyalty.models import Customer, CustomerGroup, CustomerIdentifier, EmfChange, Org, StaffChange
from loyalty.privacy.erased import ERASED, erased
from loyalty.staff.audit import record_change

SHORTEST_LOOKED_FOR = 6


@dataclass(frozen=True, slots=True)
class Texts:
    """Columns of a table in which people may have written an identifier, and what then takes the text's place.

    In a sealed table it is the text's digest, so that the seal still holds.
    """

    model: type[models.Model]
    columns: Sequence[str]
    replacement: object = ERASED
    is_sealed: bool = False

    def naming(self, org_id: int, values: Collection[str]) -> Iterator[tuple[str, QuerySet[models.Model]]]:
        """Each column with the org's rows that hold one of the values in it."""
        rows = self.model._default_manager.filter(org_id=org_id)
        for column in self.columns:
            holds = Q()
            for value in values:
                holds |= Q(**{f"{column}__icontains": value})
            yield column, rows.filter(holds)

    def erase(self, column: str, rows: QuerySet[models.Model]) -> int:
        """Replaces the texts of the column in these rows, and returns how many those were."""
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
)

_OF_NO_PERSON = {field.name for field in StaffChange._meta.fields} - {"reason", "made_by"}


def find_customer(org: Org, public_id: int) -> Customer:
    """The customer of the org by its public id. Raises InvalidOperation."""
    try:
        return Customer.objects.get(org=org, public_id=public_id)
    except Customer.DoesNotExist:
        raise InvalidOperation(f"org {org.id} has no customer {public_id}") from None


def lock_to_erase(customer: Customer) -> list[CustomerIdentifier]:
    """Locks the customer and returns the identifiers to erase. Raises InvalidOperation if they were erased before.

    Call it, and the rest, in one transaction.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # The limit of a request does not fit a look at every text of an org.
            cursor.execute("SET LOCAL statement_timeout = 0")
    lock_customers(org_id=customer.org_id, ids=[customer.id])
    customer.refresh_from_db()
    if customer.erased_at is not None:
        raise InvalidOperation(
            f"the identity of customer {customer.public_id} was erased at {customer.erased_at:%Y-%m-%d}"
        )
    return list(CustomerIdentifier.objects.filter(org_id=customer.org_id, customer=customer).order_by("type", "value"))


def erase_identity(
    customer: Customer, identifiers: Sequence[CustomerIdentifier], *, ticket: str, reason: str, made_by: str
) -> int:
    """Erases what the ledger's tables keep, records who did it and why, and returns how many texts were erased.

    Raises InvalidOperation without a ticket, a reason or a name, or if one of them holds an identifier;
    ValidationError on one that is too long.
    """
    _check_record(identifiers, ticket=ticket, reason=reason, made_by=made_by)
    CustomerIdentifier.objects.filter(org_id=customer.org_id, id__in=[each.id for each in identifiers]).delete()
    count = erase_texts(_TEXTS, org_id=customer.org_id, identifiers=identifiers)
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
    """Refuses a record of the erasure that says too little or too much."""
    for name, text in (("ticket", ticket), ("reason", reason), ("name of who does it", made_by)):
        if not text.strip():
            raise InvalidOperation(f"erasing a customer's identity needs a {name}")
        if any(value.lower() in text.lower() for value in looked_for(identifiers)):
            raise InvalidOperation(f"the {name} holds an identifier of the customer, and would be kept for ever")
    StaffChange(reason=f"{ticket}: {reason}", made_by=made_by).clean_fields(exclude=_OF_NO_PERSON)


def erase_texts(texts: Sequence[Texts], *, org_id: int, identifiers: Sequence[CustomerIdentifier]) -> int:
    """Replaces each text of the org that holds one of the identifiers, and returns how many those were."""
    values = looked_for(identifiers)
    if not values:
        return 0
    return sum(table.erase(column, rows) for table in texts for column, rows in table.naming(org_id, values))


def looked_for(identifiers: Sequence[CustomerIdentifier]) -> set[str]:
    """The identifiers as they may be written in a text."""
    values = {each.value for each in identifiers}
    values |= {_without_country_code(each.value) for each in identifiers if each.type == IdentifierType.MOBILE}
    return {value for value in values if len(value) >= SHORTEST_LOOKED_FOR}


def _without_country_code(digits: str) -> str:
    try:
        return str(phonenumbers.parse(f"+{digits}").national_number)
    except phonenumbers.NumberParseException:
        return digits
