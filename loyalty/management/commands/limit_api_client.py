from typing import Any

from django.core.management.base import CommandParser

from loyalty.clients.api_clients import find_api_client, limit_api_client
from loyalty.management.base import LoyaltyCommand, operator
from loyalty.orgs import find_org


class Command(LoyaltyCommand):
    help = "Limits the calls per minute of an API client. Without CALLS, the default limit applies again."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID")
        parser.add_argument("username", metavar="USERNAME")
        parser.add_argument("calls", type=int, nargs="?", metavar="CALLS", help="calls per minute; 0: no limit")
        parser.add_argument("--reason", required=True, metavar="R")

    def run(self, **options: Any) -> dict[str, Any]:
        client = find_api_client(find_org(options["org_id"]), options["username"])
        calls = options["calls"]
        limit_api_client(client, calls_per_minute=calls, reason=options["reason"], changed_by=operator())
        return {"org_id": client.org_id, "username": client.username, "calls_per_minute": calls}
