import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from reversals.webhooks.delivery import Worker


class Command(LoyaltyCommand):
    help = "Delivers events to webhooks until stopped by SIGTERM or SIGINT. Several can run at the same time."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="deliver the events that are due now, then exit")

    def run(self, **options: Any) -> dict[str, Any]:
        worker = Worker()
        with _stopped_by_signals(worker):
            worker.run(once=options["once"])
        return dict(worker.outcomes)


@contextmanager
def _stopped_by_signals(worker: Worker) -> Iterator[None]:
    """Asks the worker to stop on SIGTERM or SIGINT, so that it records every delivery before it ends."""

    def stop(number: int, frame: FrameType | None) -> None:
        worker.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
