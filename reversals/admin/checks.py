"""Shows the runs of verify_ledger: when the laws of the ledger were checked, and how many rows broke one."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST

from loyalty.admin.base import LedgerAdmin
from loyalty.staff.access import orgs_of
from reversals.models import LedgerCheck
from reversals.operations.worker import tasks

ADD = "reversals.add_ledgercheck"


@admin.register(LedgerCheck)
class LedgerCheckAdmin(LedgerAdmin):
    list_display = ["finished_at", "covers", "broken_count", "seconds"]
    list_filter = ()
    list_select_related = ["org"]
    ordering = ["-finished_at"]
    fields = ["covers", "started_at", "finished_at", "seconds", "broken_count"]

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("verify/", wrap(require_POST(self.verify_view)), name="reversals_ledgercheck_verify"),
            path("progress/", wrap(self.progress_view), name="reversals_ledgercheck_progress"),
            *super().get_urls(),
        ]

    def verify_view(self, request: HttpRequest) -> HttpResponse:
        """Lets the worker check the ledger of all orgs now."""
        if not request.user.has_perm(ADD):
            raise PermissionDenied
        tasks.request_check()
        return redirect("admin:index")

    def progress_view(self, request: HttpRequest) -> HttpResponse:
        """Returns the progress of the check as JSON to the page's script."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        progress = tasks.check_under_way() or {"done": 0, "all": 0, "working": False, "notice": ""}
        return JsonResponse(progress, headers={"Cache-Control": "no-store"})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The checks of each of the user's orgs, and the checks that covered all orgs."""
        return LedgerCheck.objects.filter(Q(org__isnull=True) | Q(org__in=orgs_of(request.user)))

    @admin.display(description="org")
    def covers(self, check: LedgerCheck) -> str:
        return "all orgs" if check.org is None else str(check.org)

    @admin.display(description="duration")
    def seconds(self, check: LedgerCheck) -> str:
        return f"{(check.finished_at - check.started_at).total_seconds():.1f} s"
