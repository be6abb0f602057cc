from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from loyalty.orgs import find_org
from loyalty.privacy.erasing import find_customer
from reversals.privacy.erasing import erase_customer


class Command(LoyaltyCommand):
    help = "Erases who a customer is from every table, for good; points, lots and history stay."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID")
        parser.add_argument("customer_id", type=int, metavar="CUSTOMER_ID")
        parser.add_argument("--ticket", required=True, metavar="T")
        parser.add_argument("--reason", required=True, metavar="R", help="kept for ever: it should name nobody")
        parser.add_argument("--by", required=True, metavar="USERNAME")

    def run(self, **options: Any) -> dict[str, Any]:
        customer = find_customer(find_org(options["org_id"]), options["customer_id"])
        done = erase_customer(customer, ticket=options["ticket"], reason=options["reason"], made_by=options["by"])
        return {"org_id": customer.org_id, "customer_id": customer.public_id, **asdict(done)}
