"""Converts an org's rows to lines of JSON and back. A row has the same line on PostgreSQL and SQLite.

A line is the array of a row's columns in the model's order, with points as decimal text and times as ISO 8601 in UTC.
Row ids are unique across databases and stay the same. Ids from a sequence differ between databases, so such an id, and
each reference to it, is written as the row's position among the org's rows.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.db import connection, models

from loyalty.importing.bulk import rows_into
from loyalty.ledger.sql import ids_of_sequence
from reversals.moving.tables import Model, rows_of

ROWS_AT_ONCE = 2_000

# By model, the translation of each row id.
Ids = dict[Any, dict[int, int]]


def lines_of(model: Model, org_id: int, places: Ids) -> Iterator[bytes]:
    """Yields a line for each of the org's rows in order of id. Parents come first and add positions to `places`."""
    if _is_numbered(model):
        row_ids: Any = rows_of(model, org_id).values_list("pk", flat=True)
        places[model] = {row_id: place for place, row_id in enumerate(row_ids, start=1)}
    translations = _translations(model, places)
    rows: Any = rows_of(model, org_id).values_list(*(field.attname for field in model._meta.concrete_fields))
    for row in rows.iterator(chunk_size=ROWS_AT_ONCE):
        translated = [_translated(value, ids) for value, ids in zip(row, translations, strict=True)]
        text = json.dumps(translated, default=_as_text, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        yield f"{text}\n".encode()


def load(model: Model, lines: Iterable[bytes], count: int, new_ids: Ids) -> None:
    """Inserts a row for each of the `count` lines. Parents come first and add their new ids to `new_ids`."""
    fields: Any = model._meta.concrete_fields
    if _is_numbered(model):
        new_ids[model] = dict(enumerate(ids_of_sequence(model._meta.db_table, count), start=1))
    translations = _translations(model, new_ids)
    columns = ", ".join(field.column for field in fields)
    with connection.cursor() as cursor, rows_into(cursor, model._meta.db_table, columns) as add:
        for line in lines:
            values = zip(fields, json.loads(line), translations, strict=True)
            add(tuple(_as_stored(field, _translated(value, ids)) for field, value, ids in values))


def _is_numbered(model: Model) -> bool:
    return isinstance(model._meta.pk, models.AutoField)


def _translations(model: Model, ids: Ids) -> list[dict[int, int] | None]:
    """Returns the translation of ids for each column, or None for a column without one."""
    return [ids.get(model if field.primary_key else field.related_model) for field in model._meta.concrete_fields]


def _translated(value: Any, ids: dict[int, int] | None) -> Any:
    return value if ids is None or value is None else ids[value]


def _as_text(value: Any) -> str:
    match value:
        case Decimal():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat()
        case date():
            return value.isoformat()
        case _:
            raise TypeError(f"{value!r} has no text for another cell")


def _as_stored(field: Any, value: Any) -> Any:
    return field.get_db_prep_save(field.to_python(value), connection)
