import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.db import DatabaseError
from django.utils import timezone

from loyalty.management.base import LoyaltyCommand
from loyalty.orgs import find_org
from reversals.assurance.conservation import points_of_programs
from reversals.assurance.sealing.checking import check_seals
from reversals.assurance.verification import LAWS, broken_laws, record_check, rows_checked

PROGRAM = (
    "org {org}, program {program}: points awarded {awarded}, re-issued {reissued}; of these live {live},"
    " spent {spent}, expired {expired}, replaced by re-issues {replaced}"
)


class Command(LoyaltyCommand):
    help = (
        "Checks every law of the ledger over all rows, and every seal unless --org is given. If a law or a seal is"
        " broken, names the rows and exits with 1."
    )

    def add_own_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--org", type=int, metavar="ID", help="check one org only, without the seals, because they cover all orgs"
        )
        which.add_argument(
            "--anchor",
            type=Path,
            nargs="?",
            const=settings.LEDGER_ANCHOR,
            metavar="FILE",
            help="also compare the seals with the anchor file (without FILE: %(const)s)",
        )

    def run(self, **options: Any) -> dict[str, Any]:
        org_id = None if options["org"] is None else find_org(options["org"]).id
        started_at = timezone.now()
        broken = [str(row) for row in broken_laws(org_id)]
        checked = rows_checked(org_id)
        if org_id is None:
            seals = check_seals(options["anchor"])
            broken += seals.problems
            checked["seals"] = seals.seals
        programs = list(points_of_programs(org_id))
        result = {
            "ok": not broken,
            "laws": len(LAWS),
            "checked": checked,
            "programs": [program.as_json() for program in programs],
            "broken": broken,
        }
        try:
            record_check(org_id=org_id, started_at=started_at, broken_count=len(broken))
        except DatabaseError as error:  # a read-only copy of the database can be checked too
            self.stderr.write(f"This check could not be recorded for the back office: {error}")
        return result

    def as_text(self, result: dict[str, Any]) -> str:
        checked = ", ".join(f"{count} {name[:-1] if count == 1 else name}" for name, count in result["checked"].items())
        programs = [PROGRAM.format(**program) for program in result["programs"]]
        law = f"{result['laws']} laws checked over {checked}: {'all hold' if result['ok'] else 'BROKEN'}"
        return "\n".join([*programs, law])

    def report(self, result: dict[str, Any]) -> None:
        for row in result["broken"]:
            self.stderr.write(row)
        if not result["ok"]:
            sys.exit(1)
