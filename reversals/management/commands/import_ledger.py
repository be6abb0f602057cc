import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from rich.console import Console
from rich.progress import Progress

from loyalty.importing.importer import import_ledger
from loyalty.ledger.points import written
from loyalty.management.base import LoyaltyCommand, operator
from reversals.operations.ledger_uploads import NO_REVERSAL_HAS_THE_ID


class Command(LoyaltyCommand):
    help = "Imports customers.csv, points.csv and redemptions.csv (or .csv.gz) from a folder. Files may be missing."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="folder with the files")
        parser.add_argument("--dry-run", action="store_true", help="check and count all rows, but import none")
        parser.add_argument("--skip-bad", action="store_true", help="import the valid rows and report the bad ones")

    def run(self, **options: Any) -> dict[str, Any]:
        if not options["folder"].is_dir():
            raise ValueError(f"{options['folder']} is not a folder")
        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
            tasks: dict[str, Any] = {}

            def show(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bar.add_task(stage, total=total)
                bar.update(tasks[stage], completed=done)

            summary = import_ledger(
                options["folder"],
                made_by=operator(),
                skip_bad=options["skip_bad"],
                dry_run=options["dry_run"],
                progress=show,
                more_checks=[NO_REVERSAL_HAS_THE_ID],
            )
        return {
            "dry_run": options["dry_run"],
            "files": {name: asdict(counts) for name, counts in summary.files.items()},
            "bad_rows": [str(bad) for bad in summary.bad_rows],
            "uncovered_redemptions": summary.uncovered.redemptions,
            "uncovered_points": written(summary.uncovered.points),
        }

    def as_text(self, result: dict[str, Any]) -> str:
        lines = ["dry run: nothing was imported"] if result["dry_run"] else []
        for name, counts in result["files"].items():
            lines.append(
                f"{name}: {counts['read']} read, {counts['added']} added,"
                f" {counts['already_there']} already there, {counts['bad']} bad"
            )
        lines += [f"skipped: {bad}" for bad in result["bad_rows"]]
        if result["uncovered_redemptions"]:
            lines.append(
                f"not covered by any lot: points: {result['uncovered_points']},"
                f" redemptions: {result['uncovered_redemptions']}"
            )
        return "\n".join(lines)
