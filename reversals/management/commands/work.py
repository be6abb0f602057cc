from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from loyalty.management.signals import stopped_by_signals
from reversals.operations.worker.worker import Worker


class Command(LoyaltyCommand):
    help = (
        "Runs everything that is not a call, until stopped by SIGTERM or SIGINT: delivers events, runs scheduled tasks"
        " and what users request. Several can run at the same time."
    )
    may_write = False  # in maintenance its tasks wait

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="do what is due now, then exit")

    def run(self, **options: Any) -> dict[str, Any]:
        worker = Worker()
        with stopped_by_signals(worker.stop):
            if options["once"]:
                worker.run_once()
            else:
                worker.run()
        return {"worker": worker.id}
