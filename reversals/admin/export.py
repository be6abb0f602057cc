"""Writes lists as CSV: their columns, newest row first, and without formulas for a spreadsheet to run."""

import csv
import io
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from django.db.models import Q, QuerySet

from loyalty.ledger.points import written
from reversals.admin.statuses import status_of_attempt, status_of_redemption, status_of_reversal

ROWS_AT_ONCE = 2_000
# A row's place in the order of a file: its row id, and its time if one orders the file.
Place: TypeAlias = tuple[int, datetime | None]

# Spreadsheet programs on Windows read a file as UTF-8 only if it begins with this mark.
_BYTE_ORDER_MARK = "\ufeff"
_STARTS_OF_FORMULAS = frozenset("=+-@")
_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of an export by header, and the field with the time that orders the rows, if there is one.

    A column is the path of a field, or a function of the row.
    """

    columns: dict[str, str | Callable[[Any], object]]
    time: str | None


EXPORTS = {
    "loyalty.redemption": Columns(
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
    "reversals.reversal": Columns(
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
    "reversals.correction": Columns(
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
    "reversals.attempt": Columns(
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


def header_of(columns: Columns) -> str:
    """Returns the first line of the file."""
    return _BYTE_ORDER_MARK + _csv([list(columns.columns)])


def lines_of(columns: Columns, rows: Iterable[Any]) -> str:
    """Returns the lines of these rows."""
    return _csv([_cell(_value(row, column)) for column in columns.columns.values()] for row in rows)


def ordered(columns: Columns, rows: QuerySet[Any]) -> QuerySet[Any]:
    """Returns the rows newest first, with the rows that columns refer to."""
    paths = [column for column in columns.columns.values() if isinstance(column, str)]
    parents = {path.rpartition(".")[0].replace(".", "__") for path in paths} - {""}
    rows = rows.select_related(*sorted(parents)) if parents else rows
    return rows.order_by(*([f"-{columns.time}"] if columns.time else []), "-id")


def chunks(columns: Columns, rows: QuerySet[Any], *, last: Place | None = None) -> Iterator[list[Any]]:
    """Yields the rows after `last` in chunks. Each chunk starts after the one before, so every statement is short."""
    rows = ordered(columns, rows)
    while chunk := list((rows if last is None else rows.filter(_after(last, columns.time)))[:ROWS_AT_ONCE]):
        yield chunk
        if len(chunk) < ROWS_AT_ONCE:
            return
        last = place_of(columns, chunk[-1])


def place_of(columns: Columns, row: Any) -> Place:
    """Returns the row's place in the order of the file."""
    return (row.pk, getattr(row, columns.time) if columns.time else None)


def _after(last: Place, time: str | None) -> Q:
    row_id, moment = last
    if time is None:
        return Q(id__lt=row_id)
    # Only the first condition is a range of the index; an "or" is not.
    return Q(**{f"{time}__lte": moment}) & (Q(**{f"{time}__lt": moment}) | Q(id__lt=row_id))


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
