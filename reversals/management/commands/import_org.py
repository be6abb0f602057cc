from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand, operator
from reversals.moving.arriving import import_org


class Command(LoyaltyCommand):
    help = "Imports an org that export_org exported in another cell, completely or not at all, and verifies its ledger."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the export")

    def run(self, **options: Any) -> dict[str, Any]:
        arrived = import_org(options["folder"], made_by=operator())
        manifest = arrived.manifest
        summary = {"org": manifest.org_id, "imported": arrived.is_new, "rows": manifest.rows}
        return summary | ({"ledger": "all laws hold"} if arrived.is_new else {"note": "already imported"})
