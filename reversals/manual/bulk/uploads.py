"""Reads the CSV file of a bulk run, and reports each problem with its line and what was expected."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from loyalty.ledger.canonical import canonical
from loyalty.ledger.points import InvalidPoints, read_written_points

COLUMNS = ("redemption_id", "points", "reason")
MOST_BYTES = 1_000_000
MOST_ROWS = 5_000
LONGEST_LINE = 4_000
LONGEST_REDEMPTION_ID = 64
LONGEST_POINTS = 64
LONGEST_REASON = 500

_DELIMITERS = ",;\t"
_LINE_END = re.compile(r"\r\n|\r|\n")


class FileRefused(ValueError):
    """The whole file cannot be read. The message names the line, the column and what was expected."""


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row as it was written, and its problem, if any. `line` is its first line; the header is line 1."""

    line: int
    redemption_id: str
    points_written: str
    reason: str
    problem: str = ""


def read_rows(data: bytes, *, default_reason: str = "") -> list[FileRow]:
    """The rows of the file, invalid ones with their problem. Rows without a reason get `default_reason`.

    Reads UTF-8 with or without a byte order mark, separated by commas, semicolons or tabs. The columns may be in any
    order and case. Raises FileRefused if the whole file cannot be read.
    """
    text = _decoded(data)
    _check_lines(text)
    first_lines: dict[str, int] = {}
    rows: list[FileRow] = []
    for row in _parsed(text):
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


def _decoded(data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise FileRefused(f"the file has {len(data):,} bytes; expected at most {MOST_BYTES:,}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The error's object is the file without its byte order mark.
        place = _place(error.object[: error.start].decode())
        raise FileRefused(f"{place}: expected UTF-8; save the file as CSV UTF-8") from error
    if "\0" in text:
        raise FileRefused(f"{_place(text[: text.index(chr(0))])}: expected text; found a NUL character")
    if not text.strip():
        raise FileRefused(f"line 1: expected the columns {', '.join(COLUMNS)}; the file is empty")
    return text


def _place(text_before: str) -> str:
    lines = _LINE_END.split(text_before)
    return f"line {len(lines)}, character {len(lines[-1]) + 1}"


def _check_lines(text: str) -> None:
    for number, line in enumerate(_LINE_END.split(text), start=1):
        if len(line) > LONGEST_LINE:
            raise FileRefused(
                f"line {number}, character {LONGEST_LINE + 1}: expected a line of at most {LONGEST_LINE:,} characters;"
                f" found {len(line):,}"
            )


def _parsed(text: str) -> Iterator[FileRow]:
    """Each row under the header, without blank lines. Raises FileRefused."""
    delimiter = _delimiter_of(_LINE_END.split(text, maxsplit=1)[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        header = _header(next(reader))
        line = reader.line_num + 1
        for fields in reader:
            if any(field.strip() for field in fields):
                yield _row(line, header, fields)
            line = reader.line_num + 1
    except csv.Error as error:
        raise FileRefused(f"line {line}: expected CSV with every quote closed; {error}") from error


def _delimiter_of(header: str) -> str:
    return max(_DELIMITERS, key=header.count)


def _header(fields: list[str]) -> list[str]:
    header = [field.strip().lower() for field in fields]
    for number, name in enumerate(header, start=1):
        if name not in COLUMNS or name in header[: number - 1]:
            problem = "a duplicate" if name in COLUMNS else "unknown"
            raise FileRefused(
                f"line 1, column {number}: {fields[number - 1][:40]!r} is {problem}; expected {', '.join(COLUMNS)}"
            )
    if missing := [name for name in COLUMNS if name not in header]:
        raise FileRefused(f"line 1: the column {missing[0]} is missing; expected {', '.join(COLUMNS)}")
    return header


def _row(line: int, header: list[str], fields: list[str]) -> FileRow:
    values = dict.fromkeys(COLUMNS, "") | {name: field.strip() for name, field in zip(header, fields, strict=False)}
    problem = (
        "" if len(fields) == len(header) else f"expected {len(header)} fields, as in the header; found {len(fields)}"
    )
    return FileRow(line, canonical(values["redemption_id"]), canonical(values["points"]), values["reason"], problem)


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
