"""Exports lists as CSV files: short ones at once, long ones in the worker, which the page Exports shows."""

import tempfile
from typing import IO, Any

from django.contrib import messages
from django.contrib.admin import site
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet, Sum
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from loyalty.models import Org
from loyalty.staff.access import orgs_of
from loyalty.staff.audit import record_change
from loyalty.staff.current_org import current_org
from reversals.admin import export as csv_files
from reversals.admin import large_exports
from reversals.admin.html import moment
from reversals.admin.large_exports import RIGHT, UNREADABLE
from reversals.models import Export
from reversals.operations.worker import queue

# More rows are written by the worker, because the user and a thread of the server would wait for them.
MOST_ROWS_AT_ONCE = 20_000
SHOWN = 100


class Exportable:
    """A list of one org's rows that users with permission can export with the list's filters."""

    change_list_template = "admin/reversals/exportable_list.html"

    def get_urls(self: Any) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.export_view))
        name = f"{self.opts.app_label}_{self.opts.model_name}_export"
        return [path("export/", view, name=name), *super().get_urls()]  # type: ignore[misc]

    def changelist_view(self: Any, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # The export is of the org that this page shows, even if another page has selected a different org since.
        shown = {"org": current_org(request)} | (extra_context or {})
        return super().changelist_view(request, shown)  # type: ignore[misc, no-any-return]

    def export_view(self: Any, request: HttpRequest) -> HttpResponseBase:
        """Returns the file after it is complete and recorded as a change. The address holds the list's filters.

        A file with many rows is left to the worker.
        """
        if not request.user.has_perm(RIGHT) or not self.has_view_permission(request):
            raise PermissionDenied
        org = current_org(request)
        if org is None:
            raise Http404
        columns, kind = csv_files.EXPORTS[self.opts.label_lower], str(self.opts.verbose_name_plural)
        the_list = redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        try:
            rows = self.get_changelist_instance(request).queryset
            is_large = csv_files.ordered(columns, rows).values("pk")[MOST_ROWS_AT_ONCE:][:1].exists()
            file = None if is_large else _file(columns, rows)
        except UNREADABLE:
            return the_list
        if file is None:
            _leave_to_worker(request, org, self.opts.label_lower, kind)
            the_list["Location"] += f"?{request.GET.urlencode()}"
            return the_list
        _record(request, org, kind)
        return FileResponse(file, as_attachment=True, **_headers(org, kind))


def page(request: HttpRequest) -> HttpResponse:
    """Lists the user's exports that the worker writes or has written."""
    if not request.user.has_perm(RIGHT):
        raise PermissionDenied
    exports = list(_own(request).select_related("org").order_by("-asked_at")[:SHOWN])
    is_waiting = any(each.finished_at is None for each in exports) and not queue.is_somebody_working()
    shown = {
        "title": "Exports",
        "note": f"Exports of more than {MOST_ROWS_AT_ONCE:,} rows. Each is kept for {large_exports.KEPT_FOR.days} days "
        "for the user who asked for it.",
        "is_waiting": is_waiting,
        "exports": {
            "headers": ["Asked at", "Org", "List", "Filters", "Status", "Rows", "Kept until", "File"],
            "rows": [_row(request, each) for each in exports],
        },
    }
    return TemplateResponse(request, "admin/reversals/exports.html", site.each_context(request) | shown)


def download(request: HttpRequest, export_id: int) -> HttpResponseBase:
    """Returns the file of one export to the user who asked for it, if the user may still export the list."""
    if not request.user.has_perm(RIGHT):
        raise PermissionDenied
    export = _own(request).select_related("org").filter(id=export_id, status=Export.Status.READY).first()
    if export is None:
        raise Http404
    if not large_exports.may_read(request.user, export):
        raise PermissionDenied
    response = StreamingHttpResponse(large_exports.content_of(export))
    headers = _headers(export.org, _name(export))
    response["Content-Type"], response["Cache-Control"] = headers["content_type"], "no-store"
    response["Content-Disposition"] = f'attachment; filename="{headers["filename"]}"'
    # A client notices by the length if the download is cut off.
    response["Content-Length"] = export.parts.aggregate(bytes=Sum("size"))["bytes"]
    return response


def _file(columns: csv_files.Columns, rows: QuerySet[Any]) -> IO[bytes]:
    """Writes the whole export to a file, so that the response has a length and a client notices if it is cut off."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the response closes it)
    file.write(csv_files.header_of(columns).encode())
    for chunk in csv_files.chunks(columns, rows):
        file.write(csv_files.lines_of(columns, chunk).encode())
    file.seek(0)
    return file


@transaction.atomic
def _leave_to_worker(request: HttpRequest, org: Org, kind: str, name: str) -> None:
    """Adds an export for the worker, unless the worker has the same one of the same user to write."""
    filters = request.GET.copy()
    filters["org"] = str(org.id)
    wanted: dict[str, Any] = {
        "org": org,
        "asked_by": request.user.get_username(),
        "kind": kind,
        "filters": filters.urlencode(),
    }
    if not Export.objects.filter(**wanted, finished_at=None, task__in=_tasks_under_way()).exists():
        large_exports.add(**wanted)
        _record(request, org, name)
    text = (
        'The list has more than {} rows, so the worker writes it. <a class="underline" href="{}">Exports</a> shows it.'
    )
    messages.info(request, format_html(text, f"{MOST_ROWS_AT_ONCE:,}", reverse("admin:exports")))


def _tasks_under_way() -> Any:
    return queue.unfinished(large_exports.write_export.module_path).values("id")


def _own(request: HttpRequest) -> QuerySet[Export]:
    return Export.objects.filter(org__in=orgs_of(request.user), asked_by=request.user.get_username())


def _record(request: HttpRequest, org: Org, kind: str) -> None:
    record_change(
        org,
        org=org,
        action=f"exported {kind}",
        made_by=request.user.get_username(),
        reason="export",
        before={},
        after={"filters": request.GET.urlencode()},
    )


def _headers(org: Org, kind: str) -> dict[str, Any]:
    return {
        "filename": f"{org.id}-{kind}-{timezone.now():%Y-%m-%d}.csv",
        "content_type": "text/csv; charset=utf-8",
    }


def _name(export: Export) -> str:
    return str(next(each for each in site._registry if each._meta.label_lower == export.kind)._meta.verbose_name_plural)


def _row(request: HttpRequest, export: Export) -> list[Any]:
    is_ready = export.status == Export.Status.READY
    button = render_to_string("admin/reversals/export_button.html", {"export": export}, request) if is_ready else ""
    kept = moment(export.expires_at) if export.finished_at else ""
    filters = export.filters.replace("&", ", ")
    return [
        moment(export.asked_at),
        export.org,
        _name(export).capitalize(),
        filters,
        _status(export),
        f"{export.rows:,}",
        kept,
        button,
    ]


def _status(export: Export) -> str:
    """The status, and why the export failed or when it is tried again."""
    failing = None if export.finished_at else queue.failing().filter(id=export.task).first()
    if failing is None:
        return f"{export.get_status_display()}. {export.notice}" if export.notice else export.get_status_display()
    if failing.status == queue.Status.FAILED:
        return "failed. Run its task again under Background tasks, or export the list again."
    return f"failed; tried again from {failing.run_after:%H:%M} UTC"


site.add_page("exports/", page, name="exports")  # type: ignore[attr-defined]
site.add_page("exports/<int:export_id>/download/", require_POST(download), name="export_download")  # type: ignore[attr-defined]
