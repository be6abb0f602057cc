import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from loyalty.orgs import find_org
from reversals.assurance.conservation import points_of_programs
from reversals.assurance.ledger_check import check_ledger
from reversals.assurance.verification import LAWS

PROGRAM = (
    "org {org}, program {program}: points awarded {awarded}, re-issued {reissued}; of these live {live},"
    " spent {spent}, expired {expired}, replaced by re-issues {replaced}"
)


class Command(LoyaltyCommand):
    help = (
        "Checks every law of the ledger over all rows, and every seal unless --org is given. If a law or a seal is"
        " broken, names the rows and exits with 1."
    )
    may_write = False

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
        check = check_ledger(org_id, anchor=options["anchor"])
        if check.unrecorded:
            self.stderr.write(f"This check could not be recorded for the back office: {check.unrecorded}")
        return {
            "ok": not check.broken,
            "laws": len(LAWS),
            "checked": check.checked,
            "programs": [program.as_json() for program in points_of_programs(org_id)],
            "broken": check.broken,
        }

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
