import sys
from typing import Any

from django.core.management.base import CommandParser

from loyalty import maintenance
from loyalty.management.base import LoyaltyCommand, operator
from loyalty.models import Maintenance


class Command(LoyaltyCommand):
    help = (
        "Switches maintenance on or off for all servers, or says whether it is on. While it is on, every call that"
        " moves points is answered 898, and pages and commands change nothing."
    )
    may_write = False  # its only write is not refused in maintenance

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", nargs="?", choices=["on", "off", "status"], default="status")
        parser.add_argument("--reason", default="", metavar="R", help="why; required to switch it on, shown to staff")
        parser.add_argument("--by", metavar="USERNAME", help="by default the user of the operating system")
        parser.add_argument(
            "--wait",
            type=float,
            default=60,
            metavar="SECONDS",
            help="how long to wait for the transactions that began before; exits with 1 if some still run; default: 60",
        )

    def run(self, **options: Any) -> dict[str, Any]:
        made_by = options["by"] or operator()
        if options["action"] == "on":
            row, running = maintenance.switch_on(
                reason=options["reason"], made_by=made_by, wait_seconds=options["wait"]
            )
            return _state(row) | {
                "running": [
                    {"pid": each.pid, "began_at": each.began_at.isoformat(), "statement": each.statement}
                    for each in running
                ]
            }
        if options["action"] == "off":
            maintenance.switch_off(reason=options["reason"], made_by=made_by)
        return _state(maintenance.current())

    def as_text(self, result: dict[str, Any]) -> str:
        if not result["on"]:
            return "maintenance is off"
        return f"maintenance is on since {result['since']}, by {result['by']}: {result['reason']}"

    def report(self, result: dict[str, Any]) -> None:
        running = result.get("running", [])
        for each in running:
            self.stderr.write(f"still running since {each['began_at']}: session {each['pid']}, {each['statement']}")
        if running:
            self.stderr.write("These transactions began before maintenance and may still write. Run the command again.")
            sys.exit(1)


def _state(row: Maintenance | None) -> dict[str, Any]:
    if row is None:
        return {"on": False}
    return {"on": True, "since": row.made_at.isoformat(), "by": row.made_by, "reason": row.reason}
