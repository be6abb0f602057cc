"""Creates bulk runs from a file or from selected redemptions, checks and confirms them, and shows their progress."""

import csv
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldBooleanSwitchWidget,
)

from loyalty.admin.base import REASON_LENGTH, OneOrg, PageAdmin
from loyalty.admin.filters import ByUser, period_of
from loyalty.admin.lists import OfferedFilters
from loyalty.admin.statuses import badge
from loyalty.errors import InvalidOperation
from loyalty.ledger.points import written
from loyalty.models import Org, Redemption
from loyalty.staff.access import may_work_on, orgs_of
from loyalty.staff.current_org import current_org
from reversals.admin.export import inert
from reversals.admin.html import counted, in_points, moment
from reversals.admin.reversing import ManualForm
from reversals.admin.statuses import status_of_row
from reversals.manual.bulk import results, runs
from reversals.manual.bulk.reasons import codes_of, read_reason
from reversals.manual.bulk.runs import Totals
from reversals.manual.bulk.uploads import MOST_BYTES, MOST_ROWS, FileRefused, FileRow, read_rows
from reversals.models import BulkRow, BulkRun
from reversals.operations.worker import bulk, queue

ROWS_PER_PAGE = 50

MadeAt = period_of("made_at")

Step = Callable[[BulkRun, str], None]


def may_reverse_in_bulk(request: HttpRequest) -> bool:
    """Returns whether the user may create bulk runs and make their reversals."""
    return bool(request.user.has_perms(bulk.RIGHTS))


class UploadForm(forms.Form):
    """A file of reversals, and the reason for rows that have no reason of their own."""

    org = forms.ModelChoiceField(queryset=Org.objects.none(), empty_label=None, widget=UnfoldAdminSelectWidget)
    file = forms.FileField(
        widget=UnfoldAdminFileFieldWidget(attrs={"accept": ".csv,.txt,.tsv,text/csv"}),
        help_text=f"At most {MOST_ROWS:,} rows and {MOST_BYTES // 1_000_000} MB.",
    )
    reason = forms.CharField(
        label="Reason for rows without one",
        max_length=REASON_LENGTH,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="It is stored permanently with each reversal.",
    )

    again = forms.BooleanField(
        label="Reverse the same rows again",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="Rows that were uploaded before open their existing run. Select this to create a new run instead.",
    )
    page = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request.POST or None, request.FILES or None, initial={"org": current_org(request)})
        self.fields["org"].queryset = orgs_of(request.user).order_by("id")  # type: ignore[attr-defined]
        self.rows: list[FileRow] = []
        org = current_org(request)
        codes = codes_of(org) if org is not None else []
        if codes:
            self.fields[
                "reason"
            ].help_text = f"One of {', '.join(codes)}, alone or with a note after a colon. It is stored permanently."

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        file = cleaned.get("file")
        if file is None:
            return cleaned
        if file.size > MOST_BYTES:
            raise forms.ValidationError({"file": f"The file has {file.size:,} bytes; expected at most {MOST_BYTES:,}."})
        if cleaned.get("reason") and cleaned.get("org"):
            try:
                cleaned["reason"] = read_reason(cleaned["reason"], codes_of(cleaned["org"]))
            except ValueError as error:
                raise forms.ValidationError({"reason": f"Wrong reason: {error}."}) from error
        try:
            self.rows = read_rows(file.read(), default_reason=cleaned.get("reason", ""))
        except FileRefused as error:
            raise forms.ValidationError({"file": f"{file.name}, {error}."}) from error
        return cleaned

    @property
    def key(self) -> str:
        """The key of the run: derived from the rows alone, or also from this page to reverse the same rows again."""
        return runs.key_of(self.rows, page=str(self.cleaned_data["page"]) if self.cleaned_data["again"] else "")


class RunList(OfferedFilters):
    """The list of runs. The rows of all runs on the page are counted in one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        shown: list[Any] = list(self.result_list)
        counts = runs.rows_by_status(shown[0].org_id, [run.id for run in shown]) if shown else {}
        for run in shown:
            run.rows_by_status = counts[run.id]
        self.result_list = shown


@admin.register(BulkRun)
class BulkRunAdmin(PageAdmin):
    list_display = ["name", "made_by", "made_at", "stage", "row_counts"]
    list_filter = [OneOrg, MadeAt, ByUser]
    list_filter_submit = True
    newest_by = "made_at"
    ordering = ["-made_at", "-id"]
    sortable_by = ["made_at"]
    search_fields = ["rows__redemption_id"]
    search_help_text = "Search by whole redemption id of a row."
    add_label = "Reverse in bulk"
    page_template = "admin/reversals/bulkrun/page.html"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_reverse_in_bulk(request)

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[RunList]:
        return RunList

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<int:run_id>/check/", wrap(self.check_view), name="reversals_bulkrun_check"),
            path("<int:run_id>/run/", wrap(self.run_view), name="reversals_bulkrun_run"),
            path("<int:run_id>/pause/", wrap(self.pause_view), name="reversals_bulkrun_pause"),
            path("<int:run_id>/cancel/", wrap(self.cancel_view), name="reversals_bulkrun_cancel"),
            path("<int:run_id>/progress/", wrap(self.progress_view), name="reversals_bulkrun_progress"),
            path("<int:run_id>/result.csv", wrap(self.result_view), name="reversals_bulkrun_result"),
            *super().get_urls(),
        ]

    @admin.display(description="confirmed")
    def stage(self, run: BulkRun) -> str:
        confirmed = f"by {run.confirmed_by}" if run.confirmed_by else "not yet"
        return f"{confirmed}; cancelled by {run.cancelled_by}" if run.cancelled_by else confirmed

    @admin.display(description="rows")
    def row_counts(self, run: Any) -> str:
        counts = run.rows_by_status
        return ", ".join(f"{counts[status]:,} {status.label}" for status in BulkRow.Status if status in counts)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = UploadForm(request)
        if form.is_valid():
            org, file = form.cleaned_data["org"], form.cleaned_data["file"]
            username = request.user.get_username()
            run, is_new = runs.make_run(org=org, key=form.key, name=file.name, rows=form.rows, made_by=username)
            if is_new:
                bulk.start(run, made_by=username)
            else:
                self.message_user(request, _uploaded_before(run), messages.WARNING)
            return redirect("admin:reversals_bulkrun_change", run.pk)
        context = self.admin_site.each_context(request) | {
            "opts": self.opts,
            "title": "Reverse in bulk",
            "form": form,
        }
        return TemplateResponse(request, "admin/reversals/bulkrun/upload.html", context)

    def page(self, request: HttpRequest, row: BulkRun) -> dict[str, Any]:
        totals = runs.totals_of(row)
        status = request.GET.get("status", "")
        status = status if status in BulkRow.Status.values else ""
        shown = Paginator(results.rows_of(row, status), ROWS_PER_PAGE).get_page(request.GET.get("p"))
        return {
            "title": f"Bulk run {row.name}",
            "facts": [*_facts(row), *_sums(row, totals)],
            "task": _task(row, totals) if self.has_add_permission(request) else None,
            "filters": _filters(totals),
            "status": status,
            "rows": _rows_table(shown.object_list),
            "page": shown,
        }

    def check_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """Lets the worker check the rows of the run."""
        return self._take_step(request, run_id, lambda run, username: bulk.start(run, made_by=username))

    def run_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """Confirms the run and lets the worker make its reversals."""
        return self._take_step(request, run_id, _confirm_and_start)

    def pause_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """Stops the run until somebody continues it."""
        return self._take_step(request, run_id, lambda run, username: bulk.pause(run, made_by=username))

    def cancel_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """Stops the run for good."""
        return self._take_step(request, run_id, lambda run, username: bulk.cancel(run, made_by=username))

    def progress_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """Returns the progress as JSON to the page's script."""
        run = self._run(request, run_id)
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        totals = runs.totals_of(run)
        done, of = _progress(run, totals)
        progress = {"done": done, "all": of, "working": bulk.is_at_work(run), "notice": _notice(run)}
        return JsonResponse(progress, headers={"Cache-Control": "no-store"})

    def result_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """Returns the result of each row as CSV."""
        run = self._run(request, run_id)
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        response = HttpResponse(content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="bulk-run-{run.pk}.csv"'
        writer = csv.writer(response)
        writer.writerow(results.HEADER)
        writer.writerows([inert(cell) for cell in line] for line in results.result_lines(run))
        return response

    def _run(self, request: HttpRequest, run_id: int) -> BulkRun:
        run: BulkRun | None = self.get_object(request, str(run_id))
        if run is None:
            raise Http404
        return run

    def _take_step(self, request: HttpRequest, run_id: int, step: Step) -> HttpResponse:
        run = self._run(request, run_id)
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        try:
            step(run, request.user.get_username())
        except InvalidOperation as error:
            self.message_user(request, f"Not possible: {error}.", messages.WARNING)
        return redirect("admin:reversals_bulkrun_change", run.pk)


def _confirm_and_start(run: BulkRun, username: str) -> None:
    runs.confirm(run, made_by=username)
    bulk.start(run, made_by=username)


@admin.action(description="Reverse in bulk", permissions=["bulk"])
def reverse_in_bulk(modeladmin: Any, request: HttpRequest, queryset: QuerySet[Redemption]) -> HttpResponse | None:
    """Asks for the reason, then creates a bulk run from the selected redemptions."""
    redemptions = list(queryset.select_related("org", "customer")[: MOST_ROWS + 1])
    if not redemptions:
        return None
    org = redemptions[0].org
    if not may_reverse_in_bulk(request) or not may_work_on(request.user, org.id):
        raise PermissionDenied
    form = ManualForm(request.POST if "confirmed" in request.POST else None, org_id=org.id)
    if form.is_valid():
        try:
            run = runs.start_from_redemptions(
                org=org,
                key=form.key,
                redemptions=redemptions,
                reason=form.reason,
                made_by=request.user.get_username(),
            )
            if run.task is None and runs.totals_of(run).unchecked:
                bulk.start(run, made_by=request.user.get_username())
            return redirect("admin:reversals_bulkrun_change", run.pk)
        except InvalidOperation as error:
            form.add_error(None, f"Not possible: {error}.")
    context = modeladmin.admin_site.each_context(request) | {
        "opts": modeladmin.opts,
        "title": "Reverse in bulk",
        "form": form,
        "org": org,
        "redemptions": redemptions,
        "selected": _selected_table(redemptions[:ROWS_PER_PAGE]),
    }
    return TemplateResponse(request, "admin/reversals/bulkrun/selection.html", context)


def _uploaded_before(run: BulkRun) -> str:
    return (
        f"{run.made_by} uploaded the same rows on {moment(run.made_at)}. This is their run; nothing was added to it."
        " To reverse them again, upload the file with “Reverse the same rows again” selected."
    )


def _progress(run: BulkRun, totals: Totals) -> tuple[int, int]:
    """Returns how many rows the current task has done, and how many it has in total."""
    return (totals.checked, totals.all) if run.confirmed_at is None else (totals.done, totals.possible)


def _task(run: BulkRun, totals: Totals) -> dict[str, Any] | None:
    """What the worker does with the run or could do next, with the buttons; None if the run has ended."""
    if run.cancelled_by or not totals.ready_or_unchecked:
        return None
    done, of = (totals.checked, totals.all) if totals.unchecked else (totals.done, totals.possible)
    is_at_work = bulk.is_at_work(run)
    return {
        "title": _title(run, totals),
        "done": done,
        "of": of,
        "notice": _notice(run),
        "is_at_work": is_at_work,
        "buttons": [
            ("pause", "Pause", "default") if is_at_work else _next(run, totals),
            ("cancel", "Cancel", "danger"),
        ],
    }


def _title(run: BulkRun, totals: Totals) -> str:
    if totals.unchecked:
        return "Checking the rows; no points are reversed yet"
    return "Reversing points" if run.confirmed_at is not None else "Rows checked; no points are reversed yet"


def _next(run: BulkRun, totals: Totals) -> tuple[str, str, str]:
    """The button that lets the worker begin or continue: name of the address, text and variant."""
    if totals.unchecked:
        return "check", "Continue checking", "primary"
    if run.confirmed_at is not None:
        return "run", "Continue", "primary"
    return "run", f"Reverse {counted(totals.ready, 'row')}, {in_points(totals.points_ready)}", "primary"


def _notice(run: BulkRun) -> str:
    """Why the run does not go on, and when it does."""
    if run.task is None:
        return run.notice
    if not queue.is_somebody_working():
        return "No worker is running, so the run waits. It continues when an operator starts the worker."
    task = queue.failing().filter(id=run.task).first()
    if task is None:
        return run.notice
    reason = run.notice or "The last step failed."
    again = "" if task.status == queue.Status.FAILED else f" It is tried again from {task.run_after:%H:%M:%S} UTC."
    return reason + again


def _facts(run: BulkRun) -> list[tuple[str, Any]]:
    confirmed = f"by {run.confirmed_by}, {run.confirmed_at:%Y-%m-%d %H:%M:%S} UTC" if run.confirmed_at else "not yet"
    return [
        ("Org", run.org),
        ("Created", f"by {run.made_by}, {run.made_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Confirmed", confirmed),
        *([("Cancelled", f"by {run.cancelled_by}, {moment(run.cancelled_at)}")] if run.cancelled_by else []),
    ]


def _sums(run: BulkRun, totals: Totals) -> list[tuple[str, Any]]:
    """The totals of the preview, or of what was done once the run is confirmed."""
    if run.confirmed_at is None:
        return [
            ("Rows ready", f"{totals.ready:,}"),
            ("Rows not possible", f"{totals.invalid:,}"),
            ("Points to reverse", written(totals.points_ready)),
            ("Points to expired lots", written(totals.points_ready_expired)),
            ("Rows that need approval", f"{totals.needing_approval:,}"),
            *_warnings(totals),
        ]
    return [
        ("Rows reversed", f"{totals.reversed:,}"),
        ("Points reversed", written(totals.points_reversed)),
        ("Points to expired lots", written(totals.points_reversed_expired)),
        ("Rows sent for approval", f"{totals.requested:,}"),
        ("Rows refused", f"{totals.refused:,}"),
        ("Rows not possible", f"{totals.invalid:,}"),
        ("Rows remaining", f"{totals.ready:,}"),
    ]


def _warnings(totals: Totals) -> list[tuple[str, str]]:
    return [("Ready rows whose redemption is in an earlier run", f"{totals.repeating:,}")] if totals.repeating else []


def _filters(totals: Totals) -> list[tuple[str, str, int]]:
    """The statuses to filter rows by: value, name, number of rows."""
    counts = {
        BulkRow.Status.READY: totals.ready + totals.unchecked,
        BulkRow.Status.INVALID: totals.invalid,
        BulkRow.Status.REVERSED: totals.reversed,
        BulkRow.Status.REQUESTED: totals.requested,
        BulkRow.Status.REFUSED: totals.refused,
    }
    return [("", "all", totals.all), *((each.value, each.label, count) for each, count in counts.items() if count)]


def _rows_table(rows: Any) -> dict[str, Any]:
    return {
        "headers": ["Line", "Redemption", "Points requested", "Points", "To expired lots", "Status", "Code", "Outcome"],
        "rows": [_row_cells(row) for row in rows],
    }


def _row_cells(row: BulkRow) -> list[Any]:
    amounts = results.reversal_of(row) or row
    return [
        row.position,
        row.redemption_id,
        row.points_written or "all",
        "" if amounts.points is None else written(amounts.points),
        "" if amounts.points_expired is None else written(amounts.points_expired),
        badge(status_of_row(row)),
        row.code or "",
        _linked_outcome(row),
    ]


def _linked_outcome(row: BulkRow) -> str:
    """The outcome, as a link to the reversal or the approval request if there is one."""
    outcome = results.outcome_of(row)
    if row.reversal is not None:
        address = reverse("admin:reversals_reversal_change", args=[row.reversal_id])
    elif row.approval is not None:
        address = reverse("admin:reversals_approval_change", args=[row.approval_id])
    else:
        return outcome
    return format_html('<a class="text-link" href="{}">{}</a>', address, outcome)


def _selected_table(redemptions: list[Redemption]) -> dict[str, Any]:
    return {
        "headers": ["Redemption", "Customer", "Points", "Remaining"],
        "rows": [
            [each.public_id, each.customer, written(each.points), written(each.points - each.points_reversed)]
            for each in redemptions
        ],
    }
