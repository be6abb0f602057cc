import sys
from typing import Any

from django.core.management.base import CommandParser
from django.db import DatabaseError
from django.utils import timezone

from loyalty.commands import LoyaltyCommand
from loyalty.service import find_org
from reversals.verification import LAWS, broken_laws, record_check, rows_checked


class Command(LoyaltyCommand):
    help = "Checks every law of the ledger over all rows; exits with 1 and names the rows if one is broken."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--org", type=int, metavar="ID", help="one org only")

    def run(self, **options: Any) -> dict[str, Any]:
        org_id = None if options["org"] is None else find_org(options["org"]).id
        started_at = timezone.now()
        broken = broken_laws(org_id)
        result = {
            "ok": not broken,
            "laws": len(LAWS),
            "checked": rows_checked(org_id),
            "broken": [str(row) for row in broken],
        }
        try:
            record_check(org_id=org_id, started_at=started_at, broken_count=len(broken))
        except DatabaseError as error:  # a copy that is only read can be checked as well
            self.stderr.write(f"That this check was made could not be kept for the back office: {error}")
        return result

    def as_text(self, result: dict[str, Any]) -> str:
        checked = ", ".join(f"{count} {name}" for name, count in result["checked"].items())
        return f"{result['laws']} laws checked over {checked}: {'all hold' if result['ok'] else 'BROKEN'}"

    def report(self, result: dict[str, Any]) -> None:
        for row in result["broken"]:
            self.stderr.write(row)
        if not result["ok"]:
            sys.exit(1)
