"""What an export of a list has: its rows, columns and order as shown. And CSV, without formulas to run."""

import csv
import io
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from django.db.models import Q, QuerySet
from django.utils import timezone

from loyalty.admin.views import name_of
from loyalty.ledger.points import written
from reversals.admin.statuses import status_of_attempt, status_of_redemption, status_of_reversal

ROWS_AT_ONCE = 2_000
# A row's place in the order of a list: its row id and its time.
Place: TypeAlias = tuple[int, datetime]

# Spreadsheet programs on Windows read a file as UTF-8 only if it begins with this mark.
_BYTE_ORDER_MARK = "\ufeff"
_STARTS_OF_FORMULAS = frozenset("=+-@")
_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})


Value: TypeAlias = str | Callable[[Any], object]
# The columns of an export by the list's column: the header, and the path of a field or a function of the row.
Columns: TypeAlias = dict[str, tuple[str, Value]]
# A cell is a text, or an amount or number.
Cell: TypeAlias = str | Decimal

EXPORTS: dict[str, Columns] = {
    "loyalty.redemption": {
        "public_id": ("redemption_id", "public_id"),
        "status": ("status", status_of_redemption),
        "customer": ("customer_id", "customer.public_id"),
        "program": ("program_id", "program.public_id"),
        "points": ("points", "points"),
        "points_reversed": ("points_reversed", "points_reversed"),
        "points_remaining": ("points_remaining", lambda redemption: redemption.points - redemption.points_reversed),
        "redeemed_at": ("redeemed_at", "redeemed_at"),
        "transaction_number": ("transaction_number", "transaction_number"),
        "external_reference_number": ("external_reference", "external_reference_number"),
    },
    "reversals.reversal": {
        "public_id": ("reversal_id", "public_id"),
        "status": ("status", status_of_reversal),
        "redemption": ("redemption_id", "redemption.public_id"),
        "customer": ("customer_id", "customer.public_id"),
        "program": ("program_id", "redemption.program.public_id"),
        "points_asked": ("points_asked", "points_asked"),
        "points": ("points", "points"),
        "points_available": ("points_available", "points_available"),
        "points_expired": ("points_expired", "points_expired"),
        "channel": ("channel", "channel"),
        "made_by": ("made_by", "made_by"),
        "reason": ("reason", "reason"),
        "created_at": ("created_at", "created_at"),
        "corrected_at": ("corrected_at", "corrected_at"),
        "corrected_by": ("corrected_by", "corrected_by"),
    },
    "reversals.correction": {
        "reversal": ("reversal_id", "reversal.public_id"),
        "redemption": ("redemption_id", "reversal.redemption.public_id"),
        "customer": ("customer_id", "reversal.customer.public_id"),
        "points": ("points", "points"),
        "made_by": ("made_by", "made_by"),
        "approved_by": ("approved_by", "approved_by"),
        "reason": ("reason", "reason"),
        "created_at": ("created_at", "created_at"),
    },
    "reversals.attempt": {
        "created_at": ("created_at", "created_at"),
        "result": ("status", status_of_attempt),
        "operation_name": ("operation", "operation"),
        "is_dry_run": ("dry_run", "is_dry_run"),
        "channel": ("channel", "channel"),
        "made_by": ("made_by", "made_by"),
        "requested_redemption": ("redemption_id", "redemption_id_asked"),
        "external_reference_asked": ("external_reference", "external_reference_asked"),
        "points_asked": ("points_asked", "points_asked"),
        "idempotency_key": ("idempotency_key", "idempotency_key"),
        "request_id": ("request_id", "request_id"),
        "http_status": ("http_status", "http_status"),
        "code": ("code", "code"),
        "rule": ("rule", "rule"),
        "refusal_reason": ("refusal_reason", "refusal_reason"),
        "reversal": ("reversal_id", "reversal.public_id"),
        "duration_ms": ("duration_ms", "duration_ms"),
    },
}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a list shows: its rows, its columns in order, and the field and direction that order it."""

    rows: QuerySet[Any]
    columns: Columns
    time: str
    is_descending: bool

    @property
    def header(self) -> list[str]:
        return [header for header, _ in self.columns.values()]

    def cells(self, rows: Iterable[Any]) -> Iterator[list[Cell]]:
        """Yields the cells of each row."""
        for row in rows:
            yield [_cell(_value(row, value)) for _, value in self.columns.values()]

    def chunks(self, *, last: Place | None = None) -> Iterator[list[Any]]:
        """Yields the rows after `last` in chunks. Each begins after the one before, so every statement is short."""
        rows = self.ordered()
        while chunk := list((rows if last is None else rows.filter(self._after(last)))[:ROWS_AT_ONCE]):
            yield chunk
            if len(chunk) < ROWS_AT_ONCE:
                return
            last = self.place_of(chunk[-1])

    def ordered(self) -> QuerySet[Any]:
        """Returns the rows in order, with the rows that columns refer to."""
        paths = [value for _, value in self.columns.values() if isinstance(value, str)]
        parents = {path.rpartition(".")[0].replace(".", "__") for path in paths} - {""}
        rows = self.rows.select_related(*sorted(parents)) if parents else self.rows.select_related(None)
        sign = "-" if self.is_descending else ""
        return rows.order_by(f"{sign}{self.time}", f"{sign}id")

    def place_of(self, row: Any) -> Place:
        """Returns the row's place in the order."""
        return (row.pk, getattr(row, self.time))

    def _after(self, last: Place) -> Q:
        row_id, moment = last
        after = "lt" if self.is_descending else "gt"
        # Only the first condition is a range of the index; an "or" is not.
        ties = Q(**{f"{self.time}__{after}": moment}) | Q(**{f"id__{after}": row_id})
        return Q(**{f"{self.time}__{after}e": moment}) & ties


def shown_by(changelist: Any, *, all_columns: bool = False) -> Shown:
    """Returns what the list shows, with the columns that it shows or with all of them."""
    columns = EXPORTS[changelist.opts.label_lower]
    if not all_columns:
        names = [name_of(column) for column in changelist.list_display]
        columns = {name: columns[name] for name in names if name in columns}
    return Shown(changelist.queryset, columns, changelist.newest_by, changelist.is_descending)


def csv_header(header: Iterable[str]) -> str:
    """Returns the first line of a CSV file."""
    return _BYTE_ORDER_MARK + _csv([list(header)])


def csv_lines(rows: Iterable[list[Cell]]) -> str:
    """Returns the lines of these rows, without formulas."""
    return _csv([inert(cell) if isinstance(cell, str) else written(cell) for cell in row] for row in rows)


def _value(row: Any, column: Value) -> Any:
    if not isinstance(column, str):
        return column(row)
    for part in column.split("."):
        row = None if row is None else getattr(row, part)
    return row


def _cell(value: Any) -> Cell:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return timezone.localtime(value).isoformat(timespec="seconds").replace("+00:00", "Z")
        case Decimal():
            return value
        case _:
            return str(value)


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
