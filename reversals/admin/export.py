"""Exports lists as CSV files: always complete, recorded as a change, and without formulas for a spreadsheet to run."""

import csv
import io
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import IO, Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db import DataError
from django.db.models import Model, Q, QuerySet
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.views.decorators.http import require_POST

from loyalty.ledger.points import written
from loyalty.staff.audit import record_change
from loyalty.staff.current_org import current_org
from reversals.admin.statuses import status_of_attempt, status_of_redemption, status_of_reversal

EXPORT = "reversals.export_ledger"
ROWS_AT_ONCE = 2_000

# Spreadsheet programs on Windows read a file as UTF-8 only if it begins with this mark.
_BYTE_ORDER_MARK = "\ufeff"
_STARTS_OF_FORMULAS = frozenset("=+-@")
_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Export:
    """The columns of an export by header, and the field with the time that orders the rows, if there is one.

    A column is the path of a field, or a function of the row.
    """

    columns: dict[str, str | Callable[[Any], object]]
    time: str | None


EXPORTS = {
    "loyalty.redemption": Export(
        {
            "redemption_id": "public_id",
            "status": status_of_redemption,
            "customer_id": "customer.public_id",
            "program_id": "program.public_id",
            "points": "points",
            "points_reversed": "points_reversed",
            "redeemed_at": "redeemed_at",
            "transaction_number": "transaction_number",
            "external_reference": "external_reference_number",
        },
        time=None,
    ),
    "reversals.reversal": Export(
        {
            "reversal_id": "public_id",
            "status": status_of_reversal,
            "redemption_id": "redemption.public_id",
            "customer_id": "customer.public_id",
            "program_id": "redemption.program.public_id",
            "points_asked": "points_asked",
            "points": "points",
            "points_available": "points_available",
            "points_expired": "points_expired",
            "channel": "channel",
            "made_by": "made_by",
            "reason": "reason",
            "created_at": "created_at",
            "corrected_at": "corrected_at",
            "corrected_by": "corrected_by",
        },
        time="created_at",
    ),
    "reversals.correction": Export(
        {
            "reversal_id": "reversal.public_id",
            "redemption_id": "reversal.redemption.public_id",
            "customer_id": "reversal.customer.public_id",
            "points": "points",
            "made_by": "made_by",
            "approved_by": "approved_by",
            "reason": "reason",
            "created_at": "created_at",
        },
        time="created_at",
    ),
    "reversals.attempt": Export(
        {
            "created_at": "created_at",
            "status": status_of_attempt,
            "operation": "operation",
            "dry_run": "is_dry_run",
            "channel": "channel",
            "made_by": "made_by",
            "redemption_id": "redemption_id_asked",
            "external_reference": "external_reference_asked",
            "points_asked": "points_asked",
            "idempotency_key": "idempotency_key",
            "request_id": "request_id",
            "http_status": "http_status",
            "code": "code",
            "rule": "rule",
            "refusal_reason": "refusal_reason",
            "reversal_id": "reversal.public_id",
            "duration_ms": "duration_ms",
        },
        time="created_at",
    ),
}


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
        """Returns the file after it is complete and recorded as a change. The address holds the list's filters."""
        if not request.user.has_perm(EXPORT) or not self.has_view_permission(request):
            raise PermissionDenied
        org = current_org(request)
        if org is None:
            raise Http404
        try:
            file = _file(EXPORTS[self.opts.label_lower], self.get_changelist_instance(request).queryset)
        except (IncorrectLookupParameters, OverflowError, DataError):
            return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        kind = str(self.opts.verbose_name_plural)
        record_change(
            org,
            org=org,
            action=f"exported {kind}",
            made_by=request.user.get_username(),
            reason="export",
            before={},
            after={"filters": request.GET.urlencode()},
        )
        return FileResponse(
            file,
            as_attachment=True,
            filename=f"{org.id}-{kind}-{timezone.now():%Y-%m-%d}.csv",
            content_type="text/csv; charset=utf-8",
            headers={"Cache-Control": "no-store"},
        )


def _file(export: Export, rows: QuerySet[Any]) -> IO[bytes]:
    """Writes the whole export to a file, so that the response has a length and a client notices if it is cut off."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the response closes it)
    for text in _lines(export, rows):
        file.write(text.encode())
    file.seek(0)
    return file


def _lines(export: Export, rows: QuerySet[Any]) -> Iterator[str]:
    """The text of the file, one chunk of rows at a time, newest first."""
    yield _BYTE_ORDER_MARK + _csv([list(export.columns)])
    paths = [column for column in export.columns.values() if isinstance(column, str)]
    parents = {path.rpartition(".")[0].replace(".", "__") for path in paths} - {""}
    rows = rows.select_related(*sorted(parents)) if parents else rows
    for chunk in _chunks(rows, export.time):
        yield _csv([_cell(_value(row, column)) for column in export.columns.values()] for row in chunk)


def _chunks(rows: QuerySet[Any], time: str | None) -> Iterator[list[Any]]:
    """The rows in chunks. Each chunk starts after the last row of the one before, so that every statement is short."""
    rows = rows.order_by(*([f"-{time}"] if time else []), "-id")
    chunk = list(rows[:ROWS_AT_ONCE])
    while chunk:
        yield chunk
        if len(chunk) < ROWS_AT_ONCE:
            return
        chunk = list(rows.filter(_after(chunk[-1], time))[:ROWS_AT_ONCE])


def _after(last: Model, time: str | None) -> Q:
    if time is None:
        return Q(id__lt=last.pk)
    moment = getattr(last, time)
    # Only the first condition is a range of the index; an "or" is not.
    return Q(**{f"{time}__lte": moment}) & (Q(**{f"{time}__lt": moment}) | Q(id__lt=last.pk))


def _value(row: Any, column: str | Callable[[Any], object]) -> Any:
    if not isinstance(column, str):
        return column(row)
    for part in column.split("."):
        row = None if row is None else getattr(row, part)
    return row


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%dT%H:%M:%S}Z"
        case Decimal():
            return written(value)
        case _:
            return inert(str(value))


def inert(text: str) -> str:
    """The text, with an apostrophe before it if a spreadsheet would read it as a formula.

    Spreadsheets do so after spaces and invisible characters too, and for the full-width forms of the signs.
    """
    visible = unicodedata.normalize("NFKC", text)
    start = next((each for each in visible if unicodedata.category(each) not in _INVISIBLE), "")
    return f"'{text}" if start in _STARTS_OF_FORMULAS or text[:1] in {"\t", "\r", "\n"} else text


def _csv(rows: Iterable[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
