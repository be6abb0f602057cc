from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from loyalty.orgs import find_org
from reversals.manual.merging import merge_customers


class Command(LoyaltyCommand):
    help = "Merges one customer into another, who gets the points, redemptions, identifiers and group of the first."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID", help="id of the org")
        parser.add_argument("from_id", type=int, metavar="FROM_ID", help="id of the customer to merge")
        parser.add_argument("into_id", type=int, metavar="INTO_ID", help="id of the customer who gets everything")
        parser.add_argument("--ticket", required=True, metavar="T", help="ticket of the request to merge")
        parser.add_argument("--reason", required=True, metavar="R", help="why the customers are merged")
        parser.add_argument("--by", required=True, metavar="USERNAME", help="username of the user who merges them")

    def run(self, **options: Any) -> dict[str, Any]:
        merged = merge_customers(
            org=find_org(options["org_id"]),
            source_id=options["from_id"],
            target_id=options["into_id"],
            ticket=options["ticket"],
            reason=options["reason"],
            made_by=options["by"],
        )
        return {
            "org_id": options["org_id"],
            "from_id": options["from_id"],
            "into_id": options["into_id"],
            "lots": merged.lots,
            "redemptions": merged.redemptions,
            "identifiers": merged.identifiers,
        }
