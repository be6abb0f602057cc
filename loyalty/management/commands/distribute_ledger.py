from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from loyalty.management.distributing import SHARDS, distribute


class Command(LoyaltyCommand):
    help = "Spreads the tables of a migrated database over the nodes of a Citus cluster. Safe to run again."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--plan", action="store_true", help="print the statements and execute none of them")
        parser.add_argument(
            "--shards", type=int, default=SHARDS, metavar="N", help=f"the number of shards; default: {SHARDS}"
        )

    def run(self, **options: Any) -> dict[str, Any]:
        statements = distribute(shards=options["shards"], only_plan=options["plan"])
        return {"executed": not options["plan"], "statements": statements}

    def as_text(self, result: dict[str, Any]) -> str:
        if not result["statements"]:
            return "nothing to do: every table is in place"
        if not result["executed"]:
            return ";\n".join(result["statements"]) + ";"
        return f"{len(result['statements'])} statements executed; restart the servers and the worker"
