from typing import Any

from django.core.management.base import CommandParser

from loyalty.clients.api_clients import create_api_client
from loyalty.errors import NeedsSecondUser
from loyalty.management.base import LoyaltyCommand, operator
from loyalty.orgs import find_org
from loyalty.staff.held_changes import hold_client


class Command(LoyaltyCommand):
    help = "Creates an API client of an org and prints its secret, which is not stored and cannot be shown again."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID")
        parser.add_argument("username", metavar="USERNAME")
        parser.add_argument("--secret", help="the secret to use, at least 32 characters; generated if left out")

    def run(self, **options: Any) -> dict[str, Any]:
        org = find_org(options["org_id"])
        try:
            client, secret = create_api_client(org=org, username=options["username"], secret=options["secret"])
        except NeedsSecondUser:
            held = hold_client(org=org, username=options["username"], reason="By command.", asked_by=operator())
            return {"org_id": org.id, "username": options["username"], "waits_for_second_user": held.id}
        return {"org_id": org.id, "username": client.username, "secret": secret}
