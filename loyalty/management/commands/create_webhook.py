from typing import Any

from django.core.management.base import CommandParser

from loyalty.clients.credentials import webhook_secret
from loyalty.management.base import LoyaltyCommand
from loyalty.models import EventName
from loyalty.orgs import find_org
from loyalty.webhooks import create_webhook


class Command(LoyaltyCommand):
    help = "Creates a webhook of an org and prints the secret that signs its deliveries."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID")
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("url", metavar="URL")
        parser.add_argument("--events", metavar="A,B", default=",".join(EventName.values), help="default: %(default)s")

    def run(self, **options: Any) -> dict[str, Any]:
        org = find_org(options["org_id"])
        event_names = [name.strip() for name in options["events"].split(",") if name.strip()]
        webhook = create_webhook(org=org, name=options["name"], url=options["url"], event_names=event_names)
        return {
            "org_id": org.id,
            "name": webhook.name,
            "url": webhook.url,
            "events": webhook.event_names,
            "secret": webhook_secret(webhook.id),
        }
