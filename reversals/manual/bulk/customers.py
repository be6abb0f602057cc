"""Compares the customers that a bulk file names with the customers of its redemptions."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from loyalty.ledger.identifiers import Identifier, IdentifierType, identify
from loyalty.models import Customer, CustomerIdentifier, Org, Redemption
from reversals.manual.bulk.uploads import FileRow

_TYPES = (IdentifierType.ID, IdentifierType.MOBILE, IdentifierType.EMAIL)
_PROBLEM = (
    "customer is not the customer of this redemption; expected the customer's id, mobile or email. A spreadsheet may"
    " have changed the redemption id, such as 004711 to 4711"
)


def check_customers(org: Org, rows: Sequence[FileRow]) -> list[FileRow]:
    """Returns the rows. One whose customer is not the customer of its redemption has a problem.

    An unknown redemption is no problem here, because the check of the row refuses it.
    """
    names = _names(org, [row.redemption_id for row in rows if row.customer])
    return [
        replace(row, problem=row.problem or _PROBLEM)
        if row.customer and row.redemption_id in names and not _fits(org, row.customer, names[row.redemption_id])
        else row
        for row in rows
    ]


def _fits(org: Org, customer: str, names: set[Identifier]) -> bool:
    return any(identify(kind, customer, country=org.country) in names for kind in _TYPES)


def _names(org: Org, redemption_ids: Sequence[str]) -> dict[str, set[Identifier]]:
    """Returns the ids, mobiles and emails of each redemption's customer, by redemption id.

    Among them are the ids of the customers who were merged into that customer.
    """
    redemptions = Redemption.objects.filter(org=org, public_id__in=redemption_ids).values_list(
        "public_id", "customer_id", "customer__public_id"
    )
    customers = {row[1] for row in redemptions}
    identifiers: dict[int, set[Identifier]] = defaultdict(set)
    stored = CustomerIdentifier.objects.filter(org=org, customer_id__in=customers, type__in=_TYPES)
    for customer_id, kind, value in stored.values_list("customer_id", "type", "value"):
        identifiers[customer_id].add(Identifier(IdentifierType(kind), value))
    merged = Customer.objects.filter(org=org, merged_into_id__in=customers)
    for customer_id, public_id in merged.values_list("merged_into_id", "public_id"):
        identifiers[customer_id].add(Identifier(IdentifierType.ID, str(public_id)))
    return {
        redemption_id: identifiers[customer_id] | {Identifier(IdentifierType.ID, str(public_id))}
        for redemption_id, customer_id, public_id in redemptions
    }
