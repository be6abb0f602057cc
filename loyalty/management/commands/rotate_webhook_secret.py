from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand, operator
from loyalty.orgs import find_org
from loyalty.webhooks import end_former_secret, find_webhook, rotate_secret, signing_secrets


class Command(LoyaltyCommand):
    help = (
        "Adds a signing secret to a webhook and prints it. Events are signed with the former one too, until --end ends"
        " that."
    )

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID")
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--end", action="store_true", help="sign with the newest secret only")
        parser.add_argument("--reason", required=True, metavar="R")

    def run(self, **options: Any) -> dict[str, Any]:
        webhook = find_webhook(find_org(options["org_id"]), options["name"])
        change = end_former_secret if options["end"] else rotate_secret
        change(webhook, reason=options["reason"], made_by=operator())
        webhook.refresh_from_db()
        secrets = signing_secrets(webhook)
        return {"org_id": webhook.org_id, "name": webhook.name, "secret": secrets[0], "live_secrets": len(secrets)}
