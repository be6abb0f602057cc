"""Reads ledger files (CSV) row by row, and reports where each bad row is and what was expected."""

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

from django.db import connection

from loyalty.importing.csv_rows import CsvError, csv_rows
from loyalty.ledger.canonical import LARGEST_EXACT_NUMBER, SPREADSHEETS, canonical, is_of_spreadsheet
from loyalty.ledger.clock import in_utc
from loyalty.ledger.points import InvalidPoints, read_points, to_thousandths
from loyalty.models import Org

# Customer ids, amounts and expiry times repeat, and parsing a text takes longer than looking it up in a cache.
TEXTS_REMEMBERED = 10_000

Reader = Callable[[str], Any]


class LedgerFileError(ValueError):
    """A file cannot be read. The message names it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A valid row: its line in the file, and its values by column in the form in which the database stores them."""

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be imported: its position, and what was expected there."""

    file: str
    line: int
    column: str
    expected: str

    def __str__(self) -> str:
        return f"{self.file} line {self.line}, column {self.column}: expected {self.expected}"


@lru_cache(TEXTS_REMEMBERED)
def _number(text: str) -> int:
    digits = canonical(text)
    if digits.isascii() and digits.isdigit() and len(digits) <= 19 and 1 <= int(digits) <= LARGEST_EXACT_NUMBER:
        return int(digits)
    expected = f"a whole number from 1 to {LARGEST_EXACT_NUMBER}, the largest that every API client can read"
    raise ValueError(f"{expected}; {SPREADSHEETS}" if is_of_spreadsheet(digits) else expected)


def _number_or_none(text: str) -> int | None:
    return _number(text) if canonical(text) else None


def _text(longest: int, *, required: bool, unknown: str | None = None) -> Reader:
    def read(written: str) -> str | None:
        text = canonical(written)
        if "\0" in text:
            raise ValueError("text without NUL characters")
        if len(text) > longest or (required and not text):
            raise ValueError(f"text of {1 if required else 0} to {longest} characters")
        if is_of_spreadsheet(text):
            raise ValueError(f"the value as text; {SPREADSHEETS}")
        return text or unknown

    return read


def _identifier(text: str) -> str | None:
    """Returns the text unchanged, because its type and the org's country are needed to read it."""
    return text if canonical(text) else None


def _status(written: str) -> str:
    text = canonical(written)
    if text not in {"ACTIVE", "FRAUD", "DEACTIVATED", "MERGED"}:
        raise ValueError("ACTIVE, FRAUD, DEACTIVATED or MERGED")
    return text


@lru_cache(TEXTS_REMEMBERED)
def _points(written: str) -> int:
    text = canonical(written)
    if not (text.isascii() and text.replace(".", "", 1).isdigit()):
        raise ValueError("points, such as 12.5")
    try:
        return to_thousandths(read_points(text))
    except InvalidPoints as error:
        raise ValueError(f"points, {error}") from error


@lru_cache(TEXTS_REMEMBERED)
def _time(text: str) -> Any:
    """Returns the time as the database stores it, or a day, which has its end only with the time zone of an org."""
    written = canonical(text)
    try:
        if len(written) == len("2026-03-21"):
            day = date.fromisoformat(written)
            if day.year == 1:  # its end may be before the year 1 in UTC
                raise ValueError
            return day
        moment = datetime.fromisoformat(written)
        if moment.tzinfo is None:
            raise ValueError
        return connection.ops.adapt_datetimefield_value(in_utc(moment))
    except ValueError:
        raise ValueError("a day, or a time in ISO 8601 with offset, such as 2026-03-21T00:00:00Z") from None


@lru_cache(TEXTS_REMEMBERED)
def _end_of(day: date, zone: str) -> Any:
    end = datetime.combine(day, time.max, ZoneInfo(zone))
    return connection.ops.adapt_datetimefield_value(in_utc(end))


def _time_or_never(text: str) -> Any:
    return _time(text) if canonical(text) else None


CUSTOMERS: dict[str, Reader] = {
    "org_id": _number,
    "customer_id": _number,
    "status": _status,
    "mobile": _identifier,
    "email": _identifier,
    "external_id": _identifier,
    "card_number": _identifier,
    "merged_into": _number_or_none,
}
# Columns that a file may lack; their values are then unknown.
OPTIONAL = frozenset({"merged_into"})
POINTS: dict[str, Reader] = {
    "org_id": _number,
    "program_id": _number,
    "customer_id": _number,
    "lot_ref": _text(64, required=True),
    "points": _points,
    "awarded_at": _time,
    "expires_at": _time_or_never,
}
REDEMPTIONS: dict[str, Reader] = {
    "org_id": _number,
    "program_id": _number,
    "customer_id": _number,
    "redemption_id": _text(64, required=True),
    "points": _points,
    "redeemed_at": _time,
    "transaction_number": _text(128, required=False, unknown=""),
    "external_reference_number": _text(128, required=False),
}
# The columns of each file, by its name without .csv, in the order in which files are imported.
COLUMNS: dict[str, Mapping[str, Reader]] = {"customers": CUSTOMERS, "points": POINTS, "redemptions": REDEMPTIONS}


class LedgerFile:
    """One of the ledger files, `NAME.csv` or `NAME.csv.gz`."""

    def __init__(self, path: Path, columns: Mapping[str, Reader]) -> None:
        self.path = path
        self.zones: Mapping[int, str] = {}  # time zones by org id
        self.columns = columns
        self.size = path.stat().st_size
        self._file: BinaryIO | None = None

    @property
    def bytes_read(self) -> int:
        """The number of bytes on disk that were read so far."""
        return self._file.tell() if self._file is not None else 0

    def rows(self) -> Iterator[Row | BadRow]:
        """Yields each row. Raises LedgerFileError if no further row can be read."""
        with self.path.open("rb") as self._file:
            raw: Any = gzip.GzipFile(fileobj=self._file) if self.path.suffix.lower() == ".gz" else self._file
            try:
                rows = csv_rows(raw, tuple(self.columns), optional=OPTIONAL)
                _, header = next(rows)
                for line, fields in rows:
                    yield self._row(line, header, fields)
            except CsvError as error:
                raise LedgerFileError(f"{self.path.name} {error}") from error
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise LedgerFileError(f"{self.path.name} is not a complete gzip file: {error}") from error
            except OSError as error:
                raise LedgerFileError(f"{self.path.name} cannot be read: {error.strerror}") from error

    def _row(self, line: int, header: list[str], fields: list[str]) -> Row | BadRow:
        if len(fields) != len(header):
            return BadRow(self.path.name, line, header[-1], f"{len(header)} fields in the row, not {len(fields)}")
        values: dict[str, Any] = dict.fromkeys(self.columns.keys() & OPTIONAL)
        for column, text in zip(header, fields, strict=True):
            try:
                values[column] = self.columns[column](text)
            except ValueError as error:
                return BadRow(self.path.name, line, column, str(error))
        days = [column for column, value in values.items() if type(value) is date]
        return Row(line, values | {column: self._end_of(values, column) for column in days})

    def _end_of(self, values: Mapping[str, Any], column: str) -> Any:
        """Returns the end of the day in the time zone of the row's org."""
        return _end_of(values[column], self.zones.get(values["org_id"], "UTC"))


def find_files(folder: Path) -> dict[str, LedgerFile]:
    """Returns the ledger files in the folder by name, in the order in which they are imported.

    Names may be in any case. Raises LedgerFileError for any other file, because its name may be misspelt.
    """
    found: dict[str, LedgerFile] = {}
    for path in sorted(folder.iterdir()):
        lower = path.name.lower()
        name = lower.removesuffix(".gz").removesuffix(".csv")
        is_known = name in COLUMNS and lower.endswith((".csv", ".csv.gz"))
        if _is_no_ledger_file(path.name) or (path.is_dir() and not is_known):
            continue
        if not path.is_file():
            raise LedgerFileError(f"{folder} contains {path.name}, which is not a file that can be read")
        if not is_known:
            expected = ", ".join(f"{known}.csv" for known in COLUMNS)
            raise LedgerFileError(
                f"{folder} contains {path.name}, which is not a ledger file; expected {expected} (or .csv.gz). Rename"
                " the file, or move it out of the folder"
            )
        if name in found:
            raise LedgerFileError(
                f"{folder} contains both {found[name].path.name} and {path.name}; expected only one of them"
            )
        found[name] = LedgerFile(path, COLUMNS[name])
    zones = dict(Org.objects.values_list("id", "time_zone")) if found else {}
    for file in found.values():
        file.zones = zones
    return {name: found[name] for name in COLUMNS if name in found}


def _is_no_ledger_file(name: str) -> bool:
    """Returns whether the file may be in the folder: a hidden file, a text about the data, or reversals."""
    lower = name.lower()
    return lower.startswith((".", "readme", "license", "licence", "reversal_requests.csv"))
