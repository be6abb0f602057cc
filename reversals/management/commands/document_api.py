import sys
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from loyalty.commands import LoyaltyCommand
from reversals.document.generation import document
from reversals.document.table import api_page

PAGE = settings.BASE_DIR / "docs" / "api.md"


class Command(LoyaltyCommand):
    help = (
        "Writes docs/api.md from the OpenAPI document; with --check it writes nothing and exits with 1 if it differs."
    )

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="only say whether the file is current")

    def run(self, **options: Any) -> dict[str, Any]:
        page = api_page(document())
        is_current = PAGE.exists() and PAGE.read_text() == page
        if not (is_current or options["check"]):
            PAGE.parent.mkdir(exist_ok=True)
            PAGE.write_text(page)
        return {"ok": is_current or not options["check"], "was_current": is_current}

    def as_text(self, result: dict[str, Any]) -> str:
        return "docs/api.md is current" if result["was_current"] else "docs/api.md was written"

    def report(self, result: dict[str, Any]) -> None:
        if not result["ok"]:
            self.stderr.write("docs/api.md is stale; run: python manage.py document_api")
            sys.exit(1)
