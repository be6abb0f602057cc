"""Writes an export that is too long for a request in the worker, in parts that the database keeps for a week.

Each step of the task writes the next part, in one transaction with the progress. So a task that is run again goes on
after the last part, and the number of a part keeps two workers from writing it twice.
"""

import gzip
from collections.abc import Iterator
from datetime import timedelta
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
from reversals.admin import export as csv_files
from reversals.models import Export, ExportPart
from reversals.operations.worker import queue

RIGHT = "reversals.export_ledger"
CHUNKS_IN_A_PART = 10
KEPT_FOR = timedelta(days=7)
UNREADABLE = (IncorrectLookupParameters, OverflowError, DataError)


@transaction.atomic
def add(*, org: Org, asked_by: str, kind: str, filters: str) -> Export:
    """Lets the worker write the list with these filters."""
    now = timezone.now()
    export = Export(org=org, asked_by=asked_by, kind=kind, filters=filters, asked_at=now, expires_at=now + KEPT_FOR)
    export.task = queue.add(write_export, org.id, export.id)
    export.save(force_insert=True)
    return export


def may_read(user: Any, export: Export) -> bool:
    """Returns whether the user asked for the export and may still export this list of this org."""
    return user.get_username() == export.asked_by and _may_export(_request(user, export), export)


@task(queue_name=queue.REQUESTED)
def write_export(org_id: int, export_id: int) -> str | None:
    """Writes the next part of the export. Checks first that the user who asked for it may still export the list."""
    export = Export.objects.filter(org_id=org_id, id=export_id, finished_at=None).first()
    if export is None:
        return None
    try:
        last = export.parts.defer("content").order_by("number").last()
        return queue.UNFINISHED if _write_part(export, _rows(export), last) else None
    except PermissionDenied:
        _end(export, Export.Status.FAILED, f"{export.asked_by} may not export this list of this org any more.")
    except UNREADABLE:
        _end(export, Export.Status.FAILED, "The filters of the list are not valid any more.")
    return None


def content_of(export: Export) -> Iterator[bytes]:
    """Yields the file part by part. Reads one part at a time."""
    for number in export.parts.order_by("number").values_list("number", flat=True):
        yield gzip.decompress(export.parts.values_list("content", flat=True).get(number=number))


def _write_part(export: Export, rows: QuerySet[Any], last: ExportPart | None) -> bool:
    """Writes the part after `last`. Returns whether there may be more rows after it."""
    columns = csv_files.EXPORTS[export.kind]
    place = (last.last_id, last.last_time) if last is not None and last.last_id is not None else None
    text, count = [] if last else [csv_files.header_of(columns)], 0
    for chunk in islice(csv_files.chunks(columns, rows, last=place), CHUNKS_IN_A_PART):
        text.append(csv_files.lines_of(columns, chunk))
        count += len(chunk)
        place = csv_files.place_of(columns, chunk[-1])
    content = "".join(text).encode()
    with transaction.atomic():
        ExportPart.objects.create(
            export=export,
            number=last.number + 1 if last else 1,
            rows=count,
            last_id=place and place[0],
            last_time=place and place[1],
            size=len(content),
            content=gzip.compress(content, compresslevel=6),
        )
        written = {"rows": F("rows") + count, "expires_at": timezone.now() + KEPT_FOR}
        _as_stored(export).update(status=Export.Status.RUNNING, **written)
        is_more = count == CHUNKS_IN_A_PART * csv_files.ROWS_AT_ONCE
        if not is_more:
            _end(export, Export.Status.READY)
    return is_more


def _rows(export: Export) -> QuerySet[Any]:
    """Returns the rows of the list as the user who asked for it would see them now."""
    user = User.objects.filter(username=export.asked_by, is_active=True, is_staff=True).first()
    request = None if user is None else _request(user, export)
    if request is None or not _may_export(request, export):
        raise PermissionDenied
    rows: QuerySet[Any] = _list(export).get_changelist_instance(request).queryset
    return rows


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
