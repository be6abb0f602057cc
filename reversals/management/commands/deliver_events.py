from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from loyalty.management.signals import stopped_by_signals
from reversals.webhooks.delivery import Worker


class Command(LoyaltyCommand):
    help = "Delivers events to webhooks until stopped by SIGTERM or SIGINT. Several can run at the same time."
    may_write = False

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="deliver the events that are due now, then exit")

    def run(self, **options: Any) -> dict[str, Any]:
        worker = Worker()
        with stopped_by_signals(worker.stop):
            worker.run(once=options["once"])
        return dict(worker.outcomes)
