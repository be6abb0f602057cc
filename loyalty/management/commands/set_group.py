from typing import Any

from django.core.management.base import CommandParser

from loyalty.ledger.groups import set_group
from loyalty.management.base import LoyaltyCommand
from loyalty.orgs import find_org


class Command(LoyaltyCommand):
    help = "Creates or changes a customer group of an org: sets its name, and adds and removes members."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID")
        parser.add_argument("group_id", type=int, metavar="ID")
        parser.add_argument("--name", metavar="NAME")
        parser.add_argument("--add", type=int, nargs="+", default=[], metavar="CUSTOMER_ID")
        parser.add_argument("--remove", type=int, nargs="+", default=[], metavar="CUSTOMER_ID")

    def run(self, **options: Any) -> dict[str, Any]:
        org = find_org(options["org_id"])
        group = set_group(
            org=org,
            public_id=options["group_id"],
            name=options["name"],
            add=options["add"],
            remove=options["remove"],
        )
        members = group.members.filter(left_at__isnull=True).order_by("customer__public_id")
        return {
            "org_id": org.id,
            "group_id": group.public_id,
            "name": group.name,
            "members": list(members.values_list("customer__public_id", flat=True)),
        }
