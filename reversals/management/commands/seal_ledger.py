from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from reversals.assurance.sealing.seals import seal_ledger


class Command(LoyaltyCommand):
    help = (
        "Seals all imports, lots, redemptions, reversals, corrections, setting changes, customers and programs that are"
        " not sealed yet, and appends the seals to the anchor file."
    )
    may_write = False

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--anchor",
            type=Path,
            default=settings.LEDGER_ANCHOR,
            metavar="FILE",
            help="anchor file (default: %(default)s)",
        )
        parser.add_argument(
            "--take-over",
            action="store_true",
            help="append although the file belongs to another database, which this one replaces for good",
        )

    def run(self, **options: Any) -> dict[str, Any]:
        try:
            sealed = seal_ledger(options["anchor"], take_over=options["take_over"])
        except OSError as error:
            raise ValueError(
                f"the anchor file cannot be written ({error}); the next run appends the missing seals"
            ) from error
        head = sealed.head
        return {
            "seals": sealed.seals,
            "rows": sealed.rows,
            "last_seal": None if head is None else head.id,
            "hash": None if head is None else head.hash,
            "anchor": str(options["anchor"]),
        }
