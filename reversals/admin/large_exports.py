"""Writes an export that is too long for a request in the worker, in parts that the database keeps for a week.

Each step of the task writes the next part, in one transaction with the progress. So a task that is run again goes on
after the last part, and the number of a part keeps two workers from writing it twice.
"""

import gzip
import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from django.contrib.admin import site
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth.models import User
from django.contrib.messages.storage.base import BaseStorage
from django.core.exceptions import PermissionDenied
from django.db import DataError, transaction
from django.db.models import F, QuerySet
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from django_tasks import task

from loyalty.models import Org
from loyalty.staff.access import may_work_on
from loyalty.staff.current_org import zone_of
from reversals.admin import export as exporting
from reversals.admin import xlsx
from reversals.admin.export import Cell, Place, Shown, csv_header, csv_lines, shown_by
from reversals.models import Export, ExportPart
from reversals.operations.worker import queue

RIGHT = "reversals.export_ledger"
CHUNKS_IN_A_PART = 10
BYTES_IN_A_PART = 4_000_000
KEPT_FOR = timedelta(days=7)
UNREADABLE = (IncorrectLookupParameters, OverflowError, DataError)


@transaction.atomic
def add(*, org: Org, asked_by: str, kind: str, filters: str, file_format: str = Export.Format.CSV) -> Export:
    """Lets the worker write the list with these filters, order and columns."""
    now = timezone.now()
    wanted = {"asked_by": asked_by, "kind": kind, "filters": filters, "file_format": file_format}
    export = Export(org=org, asked_at=now, expires_at=now + KEPT_FOR, **wanted)
    export.task = queue.add(write_export, org.id, export.id)
    export.save(force_insert=True)
    return export


def may_read(user: Any, export: Export) -> bool:
    """Returns whether the user asked for the export and may still export this list of this org."""
    return user.get_username() == export.asked_by and _may_export(_request(user, export), export)


@task(queue_name=queue.REQUESTED)
def write_export(org_id: int, export_id: int) -> str | None:
    """Writes the next part of the export. Checks first that the user who asked for it may still export the list."""
    export = Export.objects.select_related("org").filter(org_id=org_id, id=export_id, finished_at=None).first()
    if export is None:
        return None
    try:
        with timezone.override(zone_of(export.org)):
            last = export.parts.defer("content").order_by("number").last()
            return queue.UNFINISHED if _write_part(export, _shown(export), last) else None
    except PermissionDenied:
        _end(export, Export.Status.FAILED, f"{export.asked_by} may not export this list of this org any more.")
    except UNREADABLE:
        _end(export, Export.Status.FAILED, "The filters of the list are not valid any more.")
    return None


def content_of(export: Export) -> Iterator[bytes]:
    """Yields the file part by part. Reads one part at a time."""
    for number in export.parts.order_by("number").values_list("number", flat=True):
        yield gzip.decompress(export.parts.values_list("content", flat=True).get(number=number))


def _write_part(export: Export, shown: Shown, last: ExportPart | None) -> bool:
    """Writes the part after `last`. Returns whether there may be more rows after it."""
    place = (last.last_id, last.last_time) if last and last.last_id and last.last_time else None
    text, count = [_header(export, shown)] if last is None else [], 0
    for chunk in islice(shown.chunks(last=place), CHUNKS_IN_A_PART):
        text.append(_lines(export, shown.cells(chunk)))
        count += len(chunk)
        place = shown.place_of(chunk[-1])
    is_more = count == CHUNKS_IN_A_PART * exporting.ROWS_AT_ONCE
    if export.file_format == Export.Format.XLSX and export.rows + count > xlsx.MOST_ROWS:
        notice = f"An XLSX file has at most {xlsx.MOST_ROWS:,} rows. Export the list as CSV, or for a shorter period."
        _end(export, Export.Status.FAILED, notice)
        return False
    with transaction.atomic():
        _add_part(export, last.number + 1 if last else 1, "".join(text).encode(), rows=count, place=place)
        written = {"rows": F("rows") + count, "expires_at": timezone.now() + KEPT_FOR}
        _as_stored(export).update(status=Export.Status.RUNNING, **written)
        if not is_more:
            _finish(export, shown)
    return is_more


def _header(export: Export, shown: Shown) -> str:
    return csv_header(shown.header) if export.file_format == Export.Format.CSV else ""


def _lines(export: Export, rows: Iterable[list[Cell]]) -> str:
    """Returns the text of rows in a part: CSV, or JSON until all rows are there for the XLSX file."""
    if export.file_format == Export.Format.CSV:
        return csv_lines(rows)
    return "".join(
        f"{json.dumps([[str(cell)] if isinstance(cell, Decimal) else cell for cell in row])}\n" for row in rows
    )


def _finish(export: Export, shown: Shown) -> None:
    """Ends the export. The parts of an XLSX file replace the rows of which it is made."""
    if export.file_format == Export.Format.XLSX:
        number = export.parts.count()
        with xlsx.write(shown.header, _cells(export)) as file:
            export.parts.all().delete()
            while content := file.read(BYTES_IN_A_PART):
                number += 1
                _add_part(export, number, content)
    _end(export, Export.Status.READY)


def _cells(export: Export) -> Iterator[list[Cell]]:
    for content in content_of(export):
        for line in content.decode().splitlines():
            yield [Decimal(cell[0]) if isinstance(cell, list) else cell for cell in json.loads(line)]


def _add_part(export: Export, number: int, content: bytes, *, rows: int = 0, place: Place | None = None) -> None:
    ExportPart.objects.create(
        export=export,
        number=number,
        rows=rows,
        last_id=place and place[0],
        last_time=place and place[1],
        size=len(content),
        content=gzip.compress(content, compresslevel=6),
    )


def _shown(export: Export) -> Shown:
    """Returns the list as the user who asked for it would see it now."""
    user = User.objects.filter(username=export.asked_by, is_active=True, is_staff=True).first()
    request = None if user is None else _request(user, export)
    if request is None or not _may_export(request, export):
        raise PermissionDenied
    return shown_by(_list(export).get_changelist_instance(request))


def _may_export(request: HttpRequest, export: Export) -> bool:
    is_allowed = request.user.has_perm(RIGHT) and may_work_on(request.user, export.org_id)
    return is_allowed and bool(_list(export).has_view_permission(request))


def _request(user: Any, export: Export) -> HttpRequest:
    """Returns a request for the list, because the lists take their filters from one. The filters name the org."""
    request: Any = HttpRequest()
    request.user, request.session, request.method = user, {}, "GET"
    request.GET, request.asked_at, request._messages = QueryDict(export.filters), export.asked_at, BaseStorage(request)
    return request  # type: ignore[no-any-return]


def _list(export: Export) -> Any:
    return next(each for model, each in site._registry.items() if model._meta.label_lower == export.kind)


def _end(export: Export, status: Export.Status, notice: str = "") -> None:
    now = timezone.now()
    _as_stored(export).update(status=status, notice=notice, finished_at=now, expires_at=now + KEPT_FOR)


def _as_stored(export: Export) -> QuerySet[Export]:
    return Export.objects.filter(org_id=export.org_id, id=export.id)
