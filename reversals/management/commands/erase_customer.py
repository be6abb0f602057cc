from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from loyalty.orgs import find_org
from loyalty.privacy.erasing import find_customer
from reversals.privacy.erasing import erase_customer


class Command(LoyaltyCommand):
    help = "Permanently erases a customer's identity from every table. Points, lots and history stay."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID", help="id of the org")
        parser.add_argument("customer_id", type=int, metavar="CUSTOMER_ID", help="id of the customer")
        parser.add_argument("--ticket", required=True, metavar="T", help="ticket of the request to erase")
        parser.add_argument(
            "--reason", required=True, metavar="R", help="why; kept permanently, so it must not identify a person"
        )
        parser.add_argument(
            "--by", required=True, metavar="USERNAME", help="username of the user who erases the identity"
        )

    def run(self, **options: Any) -> dict[str, Any]:
        customer = find_customer(find_org(options["org_id"]), options["customer_id"])
        done = erase_customer(customer, ticket=options["ticket"], reason=options["reason"], made_by=options["by"])
        return {"org_id": customer.org_id, "customer_id": customer.public_id, **asdict(done)}
