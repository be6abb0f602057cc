from typing import Any

from django.core.management.base import CommandParser

from loyalty.ledger.points import written
from loyalty.management.base import LoyaltyCommand, operator
from loyalty.orgs import find_org
from reversals.manual.covering import cover_redemptions


class Command(LoyaltyCommand):
    help = "Finds lots for redemptions that were imported before the points that they drew."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID", help="id of the org")
        parser.add_argument("--dry-run", action="store_true", help="only show what would be covered")
        parser.add_argument(
            "--reason", default="points were imported after their redemptions", metavar="R", help="why, for the record"
        )
        parser.add_argument("--by", metavar="USERNAME", help="username of the user who does it; default: who runs it")

    def run(self, **options: Any) -> dict[str, Any]:
        made_by, reason = (options["by"] or operator()).strip(), options["reason"].strip()
        for text, argument, longest in ((reason, "--reason", 500), (made_by, "--by", 150)):
            if not 1 <= len(text) <= longest:
                raise ValueError(f"{argument}: expected a text of 1 to {longest} characters")
        covered = cover_redemptions(
            find_org(options["org_id"]), made_by=made_by, reason=reason, dry_run=options["dry_run"]
        )
        return {
            "org_id": options["org_id"],
            "dry_run": options["dry_run"],
            "covered_redemptions": covered.redemptions,
            "covered_points": written(covered.points),
            "uncovered_redemptions": covered.uncovered_redemptions,
            "uncovered_points": written(covered.uncovered_points),
        }
