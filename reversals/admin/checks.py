"""Shows the runs of verify_ledger: when the laws of the ledger were checked, and how many rows broke one."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from loyalty.admin.base import LedgerAdmin
from loyalty.staff.access import orgs_of
from reversals.models import LedgerCheck


@admin.register(LedgerCheck)
class LedgerCheckAdmin(LedgerAdmin):
    list_display = ["finished_at", "covers", "broken_count", "seconds"]
    list_filter = ()
    list_select_related = ["org"]
    ordering = ["-finished_at"]
    fields = ["covers", "started_at", "finished_at", "seconds", "broken_count"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The checks of each of the user's orgs, and the checks that covered all orgs."""
        return LedgerCheck.objects.filter(Q(org__isnull=True) | Q(org__in=orgs_of(request.user)))

    @admin.display(description="org")
    def covers(self, check: LedgerCheck) -> str:
        return "all orgs" if check.org is None else str(check.org)

    @admin.display(description="duration")
    def seconds(self, check: LedgerCheck) -> str:
        return f"{(check.finished_at - check.started_at).total_seconds():.1f} s"
