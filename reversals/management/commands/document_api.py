import sys
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand
from reversals.api.openapi.generation import document
from reversals.api.openapi.table import api_page

PAGE = settings.BASE_DIR / "docs" / "api.md"


class Command(LoyaltyCommand):
    help = (
        "Writes docs/api.md from the OpenAPI document. With --check, writes nothing and exits with 1 if the file is"
        " out of date."
    )
    may_write = False

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="only report whether the file is up to date")

    def run(self, **options: Any) -> dict[str, Any]:
        page = api_page(document())
        was_current = PAGE.exists() and PAGE.read_text() == page
        if not options["check"]:
            PAGE.write_text(page)
        return {"ok": was_current or not options["check"], "was_current": was_current}

    def as_text(self, result: dict[str, Any]) -> str:
        if result["was_current"]:
            return "docs/api.md is up to date"
        return "docs/api.md was written" if result["ok"] else "docs/api.md is out of date"

    def report(self, result: dict[str, Any]) -> None:
        if not result["ok"]:
            self.stderr.write("To update it, run: python manage.py document_api")
            sys.exit(1)
