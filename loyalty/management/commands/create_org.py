from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from loyalty.orgs import create_org


class Command(LoyaltyCommand):
    help = "Creates an org. The V2 API is enabled unless --no-v2 is given."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ID")
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--country", default="IN", help="two letters (ISO 3166); default: IN")
        parser.add_argument("--time-zone", default="UTC", help="such as Asia/Kolkata; default: UTC")
        parser.add_argument("--no-v2", action="store_true", help="do not enable the V2 API")

    def run(self, **options: Any) -> dict[str, Any]:
        org = create_org(
            org_id=options["org_id"],
            name=options["name"],
            country=options["country"].upper(),
            v2_enabled=not options["no_v2"],
            time_zone=options["time_zone"],
        )
        fields = ("name", "country", "time_zone", "v2_enabled")
        return {"org_id": org.id} | {name: getattr(org, name) for name in fields}
