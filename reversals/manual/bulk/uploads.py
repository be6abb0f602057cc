"""Reads the CSV file of a bulk run, and reports each problem with its line and what was expected."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from loyalty.importing.csv_rows import CsvError, csv_rows
from loyalty.ledger.canonical import canonical
from loyalty.ledger.points import InvalidPoints, read_written_points

COLUMNS = ("redemption_id", "points", "reason", "customer")
OPTIONAL = frozenset({"customer"})
MOST_BYTES = 1_000_000
MOST_ROWS = 5_000
LONGEST_LINE = 4_000
LONGEST_REDEMPTION_ID = 64
LONGEST_POINTS = 64
LONGEST_REASON = 500


class FileRefused(ValueError):
    """The whole file cannot be read. The message names the line, the column and what was expected."""


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row as it was written, and its problem, if any. `line` is its first line; the header is line 1.

    `customer` is the id, mobile or email of the redemption's customer, or empty.
    """

    line: int
    redemption_id: str
    points_written: str
    reason: str
    problem: str = ""
    customer: str = ""


def read_rows(data: bytes, *, default_reason: str = "") -> list[FileRow]:
    """The rows of the file, invalid ones with their problem. Rows without a reason get `default_reason`.

    Reads the same forms of CSV as the import of a ledger. Raises FileRefused if the whole file cannot be read.
    """
    first_lines: dict[str, int] = {}
    rows: list[FileRow] = []
    for row in _parsed(data):
        if len(rows) == MOST_ROWS:
            raise FileRefused(f"line {row.line}: expected at most {MOST_ROWS:,} rows; split the file")
        row = replace(row, reason=row.reason or default_reason.strip())
        first_line = first_lines.setdefault(row.redemption_id, row.line)
        rows.append(_kept(replace(row, problem=row.problem or _problem(row, first_line))))
    if not rows:
        raise FileRefused("line 2: expected at least one row under the header; the file has no rows")
    return rows


def read_points_of(written: str) -> Decimal | None:
    """The points of a row, read by the same rules as in the API; None for all remaining. Raises InvalidPoints."""
    return read_written_points(written) if written else None


def _parsed(data: bytes) -> Iterator[FileRow]:
    """Yields each row under the header. Raises FileRefused."""
    if len(data) > MOST_BYTES:
        raise FileRefused(f"the file has {len(data):,} bytes; expected at most {MOST_BYTES:,}")
    rows = csv_rows(io.BytesIO(data), COLUMNS, optional=OPTIONAL, longest_line=LONGEST_LINE)
    try:
        _, header = next(rows)
        for line, fields in rows:
            if any("\0" in field for field in fields):
                raise FileRefused(f"line {line}: expected text; found a NUL character")
            yield _row(line, header, fields)
    except CsvError as error:
        raise FileRefused(str(error)) from error


def _row(line: int, header: list[str], fields: list[str]) -> FileRow:
    values = dict.fromkeys(COLUMNS, "") | {name: field.strip() for name, field in zip(header, fields, strict=False)}
    problem = (
        "" if len(fields) == len(header) else f"expected {len(header)} fields, as in the header; found {len(fields)}"
    )
    redemption_id, points, customer = (canonical(values[name]) for name in ("redemption_id", "points", "customer"))
    return FileRow(line, redemption_id, points, values["reason"], problem, customer)


def _problem(row: FileRow, first_line: int) -> str:
    """The problem of the row; empty if there is no problem."""
    if not row.redemption_id:
        return "redemption_id is empty; expected the id of a redemption"
    if len(row.redemption_id) > LONGEST_REDEMPTION_ID:
        return f"redemption_id has {len(row.redemption_id)} characters; expected at most {LONGEST_REDEMPTION_ID}"
    if not row.reason:
        return "reason is empty; expected a reason here or in the form"
    if len(row.reason) > LONGEST_REASON:
        return f"reason has {len(row.reason)} characters; expected at most {LONGEST_REASON}"
    if first_line != row.line:
        return f"line {row.line} repeats the redemption of line {first_line}; put the points in one row"
    if len(row.points_written) > LONGEST_POINTS:
        return f"points has {len(row.points_written)} characters; expected at most {LONGEST_POINTS}"
    try:
        read_points_of(row.points_written)
    except InvalidPoints as error:
        return f"points: expected {error}, such as 12.5, or nothing for all remaining points"
    return ""


def _kept(row: FileRow) -> FileRow:
    """The row with each field cut to the length that is stored."""
    return replace(
        row,
        redemption_id=row.redemption_id[:LONGEST_REDEMPTION_ID],
        points_written=row.points_written[:LONGEST_POINTS],
        reason=row.reason[:LONGEST_REASON],
    )
