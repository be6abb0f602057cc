from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from loyalty.orgs import create_program, find_org


class Command(LoyaltyCommand):
    help = "Creates a program of an org."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID")
        parser.add_argument("program_id", type=int, metavar="ID")
        parser.add_argument("name", metavar="NAME")

    def run(self, **options: Any) -> dict[str, Any]:
        org = find_org(options["org_id"])
        program = create_program(org=org, public_id=options["program_id"], name=options["name"])
        return {"org_id": org.id, "program_id": program.public_id, "name": program.name}
