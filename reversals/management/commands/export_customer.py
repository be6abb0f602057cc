import json
from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from loyalty.orgs import find_org
from loyalty.privacy.erasing import find_customer
from reversals.privacy.exporting import export_customer


class Command(LoyaltyCommand):
    help = "Prints all stored data of a customer as one JSON document, indented unless --json is given."
    may_write = False

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID", help="id of the org")
        parser.add_argument("customer_id", type=int, metavar="CUSTOMER_ID", help="id of the customer")

    def run(self, **options: Any) -> dict[str, Any]:
        return export_customer(find_customer(find_org(options["org_id"]), options["customer_id"]))

    def as_text(self, result: dict[str, Any]) -> str:
        return json.dumps(result, indent=2, ensure_ascii=False)
