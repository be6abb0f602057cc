from typing import Any

from django.core.management.base import CommandParser

from loyalty.clients import rehashing
from loyalty.management.base import LoyaltyCommand


class Command(LoyaltyCommand):
    help = "Counts the secrets of API clients that are hashed with API_PEPPER, and names clients with a former hash."
    may_write = False

    def add_own_arguments(self, parser: CommandParser) -> None:
        pass

    def run(self, **options: Any) -> dict[str, Any]:
        return rehashing.counts()
