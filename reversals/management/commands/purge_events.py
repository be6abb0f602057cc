from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import LoyaltyCommand
from reversals.webhooks.outbox import purge


class Command(LoyaltyCommand):
    help = "Removes old events and the personal data in them, except events that still have to be delivered."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--older-than", type=int, required=True, metavar="DAYS", help="age in days, 1 to 36500")

    def run(self, **options: Any) -> dict[str, Any]:
        days = options["older_than"]
        if not 1 <= days <= 36_500:
            raise ValueError(f"--older-than is {days}; expected 1 to 36500 days")
        return {"removed": purge(before=timezone.now() - timedelta(days=days))}
