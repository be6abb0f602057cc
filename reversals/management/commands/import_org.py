from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand, operator
from reversals.moving.arriving import import_org


class Command(LoyaltyCommand):
    help = "Takes in an org that export_org wrote in another cell, all or nothing, and proves its ledger."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="of the export")

    def run(self, **options: Any) -> dict[str, Any]:
        arrived = import_org(options["folder"], made_by=operator())
        manifest = arrived.manifest
        said = {"org": manifest.org_id, "imported": arrived.is_new, "rows": manifest.rows}
        return said | ({"ledger": "all laws hold"} if arrived.is_new else {"note": "it was here already"})
