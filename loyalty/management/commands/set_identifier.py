from typing import Any

from django.core.management.base import CommandParser

from loyalty.ledger.customer_identifiers import set_identifier
from loyalty.ledger.identifiers import TYPE_NAMES, identifier_type
from loyalty.management.base import LoyaltyCommand
from loyalty.orgs import find_org
from loyalty.privacy.erasing import find_customer


class Command(LoyaltyCommand):
    help = "Changes or adds an identifier of a customer. An empty VALUE removes it."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID", help="id of the org")
        parser.add_argument("customer_id", type=int, metavar="CUSTOMER_ID", help="id of the customer")
        parser.add_argument("type", metavar="TYPE", help="type of the identifier, such as MOBILE or EMAIL")
        parser.add_argument("value", metavar="VALUE", help="the new value; empty to remove the identifier")
        parser.add_argument("--old", metavar="VALUE", help="the value to change, if the customer has several")
        parser.add_argument("--ticket", required=True, metavar="T", help="ticket of the request to change it")
        parser.add_argument("--reason", required=True, metavar="R", help="why the identifier is changed")
        parser.add_argument("--by", required=True, metavar="USERNAME", help="username of the user who changes it")

    def run(self, **options: Any) -> dict[str, Any]:
        customer = find_customer(find_org(options["org_id"]), options["customer_id"])
        kind = identifier_type(options["type"])
        if kind is None:
            raise ValueError(f"TYPE is {options['type']!r}; expected one of {TYPE_NAMES}")
        change = set_identifier(
            customer,
            kind=kind,
            value=options["value"],
            replaces=options["old"],
            ticket=options["ticket"],
            reason=options["reason"],
            made_by=options["by"],
        )
        return {
            "org_id": customer.org_id,
            "customer_id": customer.public_id,
            "type": kind.value,
            "old_value": change.before[kind.value],
            "new_value": change.after[kind.value],
            "ticket": options["ticket"],
        }
