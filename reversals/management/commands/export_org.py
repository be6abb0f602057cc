from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from loyalty.errors import InvalidOperation
from loyalty.management.base import LoyaltyCommand, operator
from loyalty.orgs import find_org
from reversals.moving.closing import reopen
from reversals.moving.leaving import check_unchanged, export_org


class Command(LoyaltyCommand):
    help = (
        "Closes an org and exports its data to a new folder, for import_org in another cell. With --check, verifies"
        " that the data has not changed since the export. With --cancel, reopens the org."
    )

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID", help="id of the org")
        parser.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="folder of the export")
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument(
            "--to", metavar="HOST", help="close and export the org; HOST is the host of the cell to which it moves"
        )
        what.add_argument("--check", action="store_true", help="compare the closed org with its export in DIR")
        what.add_argument(
            "--cancel",
            action="store_true",
            help="reopen the org; never after import_org has imported it, because both cells would accept writes",
        )

    def run(self, **options: Any) -> dict[str, Any]:
        org, folder = find_org(options["org_id"]), options["folder"]
        if options["cancel"]:
            reopen(org, made_by=operator())
            return {"org": org.id, "closed": False}
        if folder is None:
            raise InvalidOperation("DIR is missing; give the folder of the export")
        if options["check"]:
            manifest = check_unchanged(org, folder)
        else:
            manifest = export_org(org, folder, host=options["to"], made_by=operator())
        return {"org": org.id, "closed": True, "host": manifest.host, "rows": manifest.rows, "ledger": "all laws hold"}
