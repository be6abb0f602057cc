"""Exports lists as files: short ones at once, long ones in the worker, which the page Exports shows."""

import tempfile
from itertools import chain
from typing import IO, Any

from django.contrib import messages
from django.contrib.admin import site
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet, Sum
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    QueryDict,
    StreamingHttpResponse,
)
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from loyalty.admin.views import COLUMNS, query_of
from loyalty.models import Org
from loyalty.staff.access import orgs_of
from loyalty.staff.audit import record_change
from loyalty.staff.current_org import current_org, zone_of
from reversals.admin import large_exports, xlsx
from reversals.admin.export import EXPORTS, Shown, csv_header, csv_lines, shown_by
from reversals.admin.html import Amount, moment
from reversals.admin.large_exports import RIGHT, UNREADABLE
from reversals.models import Export
from reversals.operations.worker import queue

# More rows are written by the worker, because the user and a thread of the server would wait for them.
MOST_ROWS_AT_ONCE = 20_000
SHOWN = 100
CONTENT_TYPES = {
    Export.Format.CSV: "text/csv; charset=utf-8",
    Export.Format.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


class Exportable:
    """A list of one org's rows that users with permission can export with the list's filters."""

    is_exportable = True

    def get_urls(self: Any) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.export_view))
        name = f"{self.opts.app_label}_{self.opts.model_name}_export"
        return [path("export/", view, name=name), *super().get_urls()]  # type: ignore[misc]

    def changelist_view(self: Any, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # The export is of the org that this page shows, even if another page has selected a different org since.
        shown = {"org": current_org(request)} | (extra_context or {})
        return super().changelist_view(request, shown)  # type: ignore[misc, no-any-return]

    def export_view(self: Any, request: HttpRequest) -> HttpResponseBase:
        """Returns the file after it is complete and recorded as a change. The address has what the list shows.

        A file with many rows is left to the worker.
        """
        if not request.user.has_perm(RIGHT) or not self.has_view_permission(request):
            raise PermissionDenied
        org = current_org(request)
        if org is None:
            raise Http404
        file_format = Export.Format.XLSX if request.POST.get("format") == "xlsx" else Export.Format.CSV
        address = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        back = f"{address}?{request.GET.urlencode()}"
        if "all_columns" in request.POST:
            request.GET = _with(  # type: ignore[assignment]
                request.GET, **{COLUMNS: ",".join(EXPORTS[self.opts.label_lower])}
            )
        try:
            with timezone.override(zone_of(org)):
                changelist = self.get_changelist_instance(request)
                shown = shown_by(changelist)
                is_large = shown.ordered().values("pk")[MOST_ROWS_AT_ONCE:][:1].exists()
                file = None if is_large else FILES[file_format](shown)
        except UNREADABLE:
            return redirect(address)
        if file is None:
            _leave_to_worker(request, org, changelist, file_format)
            return redirect(back)
        _record(request, org, str(self.opts.verbose_name_plural), shown, file_format)
        headers = _headers(org, str(self.opts.verbose_name_plural), file_format)
        return FileResponse(file, as_attachment=True, **headers)


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
            "headers": [
                "Requested",
                "Org",
                "List",
                "Filters",
                "Format",
                "Status",
                Amount("Rows"),
                "Kept until",
                "File",
            ],
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
    headers = _headers(export.org, _name(export), Export.Format(export.file_format))
    response["Content-Type"], response["Cache-Control"] = headers["content_type"], "no-store"
    response["Content-Disposition"] = f'attachment; filename="{headers["filename"]}"'
    # A client notices by the length if the download is cut off.
    response["Content-Length"] = export.parts.aggregate(bytes=Sum("size"))["bytes"]
    return response


def _csv_file(shown: Shown) -> IO[bytes]:
    """Writes the whole export to a file, so that the response has a length and a client notices if it is cut off."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the response closes it)
    file.write(csv_header(shown.header).encode())
    for chunk in shown.chunks():
        file.write(csv_lines(shown.cells(chunk)).encode())
    file.seek(0)
    return file


def _xlsx_file(shown: Shown) -> IO[bytes]:
    return xlsx.write(shown.header, chain.from_iterable(map(shown.cells, shown.chunks())))


FILES = {Export.Format.CSV: _csv_file, Export.Format.XLSX: _xlsx_file}


@transaction.atomic
def _leave_to_worker(request: HttpRequest, org: Org, changelist: Any, file_format: Export.Format) -> None:
    """Adds an export for the worker, unless the worker has the same one of the same user to write."""
    search = {"q": changelist.query} if changelist.query else {}
    wanted: dict[str, Any] = {
        "org": org,
        "asked_by": request.user.get_username(),
        "kind": changelist.opts.label_lower,
        # The columns and the order by name, because the user's columns or rights can change until it is written.
        "filters": _with(QueryDict(query_of(changelist)), org=str(org.id), **search).urlencode(),
        "file_format": file_format,
    }
    if not Export.objects.filter(**wanted, finished_at=None, task__in=_tasks_under_way()).exists():
        large_exports.add(**wanted)
        _record(request, org, str(changelist.opts.verbose_name_plural), shown_by(changelist), file_format)
    text = (
        'The list has more than {} rows, so the worker writes it. <a class="underline" href="{}">Exports</a> shows it.'
    )
    messages.info(request, format_html(text, f"{MOST_ROWS_AT_ONCE:,}", reverse("admin:exports")))


def _with(query: QueryDict, **values: str) -> QueryDict:
    changed = query.copy()
    for name, value in values.items():
        changed[name] = value
    return changed


def _tasks_under_way() -> Any:
    return queue.unfinished(large_exports.write_export.module_path).values("id")


def _own(request: HttpRequest) -> QuerySet[Export]:
    return Export.objects.filter(org__in=orgs_of(request.user), asked_by=request.user.get_username())


def _record(request: HttpRequest, org: Org, kind: str, shown: Shown, file_format: Export.Format) -> None:
    filters = request.GET.copy()
    filters.pop(COLUMNS, None)
    record_change(
        org,
        org=org,
        action=f"exported {kind}",
        made_by=request.user.get_username(),
        reason="export",
        before={},
        after={"filters": filters.urlencode(), "columns": ", ".join(shown.header), "format": file_format.value},
    )


def _headers(org: Org, kind: str, file_format: Export.Format) -> dict[str, Any]:
    return {
        "filename": f"{org.id}-{kind}-{timezone.now():%Y-%m-%d}.{file_format.lower()}",
        "content_type": CONTENT_TYPES[file_format],
    }


def _name(export: Export) -> str:
    return str(next(each for each in site._registry if each._meta.label_lower == export.kind)._meta.verbose_name_plural)


def _row(request: HttpRequest, export: Export) -> list[Any]:
    is_ready = export.status == Export.Status.READY
    button = render_to_string("admin/reversals/export_button.html", {"export": export}, request) if is_ready else ""
    kept = moment(export.expires_at) if export.finished_at else ""
    return [
        moment(export.asked_at),
        export.org,
        _name(export).capitalize(),
        ", ".join(f"{name} {value}" for name, value in QueryDict(export.filters).items()),
        export.get_file_format_display(),
        _status(export),
        Amount(f"{export.rows:,}"),
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
