import sys
from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from reversals.operations.doctor.examination import examine, store


class Command(LoyaltyCommand):
    help = "Says what is wrong with this set-up, what is expected, and what to do. Exits with code 1 after an error."
    may_write = False  # findings are stored in maintenance too

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--store", action="store_true", help="store the findings, for the metrics and their alerts")

    def run(self, **options: Any) -> dict[str, Any]:
        findings = examine()
        if options["store"]:
            store(findings)
        listed = [each.as_json() for each in findings]
        return {"ok": all(each["status"] != "error" for each in listed), "findings": listed}

    def as_text(self, result: dict[str, Any]) -> str:
        lines = []
        for each in result["findings"]:
            lines.append(f"{each['status']:8} {each['check']:12} {each['found']}")
            if each["do"]:
                lines += [f"{'':21} expected: {each['expected']}", f"{'':21} do: {each['do']}"]
        return "\n".join(lines)

    def report(self, result: dict[str, Any]) -> None:
        if not result["ok"]:
            sys.exit(1)
