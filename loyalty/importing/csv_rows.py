"""Reads the rows of CSV files as spreadsheets and other systems write them. Ledger files and bulk uploads share it."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import chain
from typing import Any

from loyalty.ledger.canonical import canonical

# Longer lines are refused, so that a compressed file cannot fill the memory with one line.
LONGEST_LINE = 64_000

_DELIMITERS = ",;\t"
# The first line of some spreadsheets names the delimiter.
_SEP_LINE = re.compile(r'"?sep=([^\w"\r\n])"?[,;\s]*', re.IGNORECASE)
_FIRST_ESCAPE = 0xDC00
# How compressed files begin.
_NOT_TEXT = {
    b"\x1f\x8b": "gzip; name the file .csv.gz, or unpack it",
    b"PK": "a workbook (.xlsx) or another zip file; save it as CSV UTF-8",
}


class CsvError(ValueError):
    """A file that cannot be read any further. The message names the line and what was expected."""


def csv_rows(
    raw: Any, columns: Sequence[str], *, optional: Set[str] = frozenset(), longest_line: int = LONGEST_LINE
) -> Iterator[tuple[int, list[str]]]:
    """Yields the header and then each row as its fields, with the number of the row's first line.

    `raw` is a binary file, plain or gzip. Reads UTF-8 with or without a byte order mark. Lines end with LF, CRLF or CR.
    Fields are separated by commas, semicolons or tabs, or by the character in a first line `sep=`. The columns may be
    in any order and case; the header is yielded as in `columns`. Rows without any value are skipped, and so are columns
    at the end without name and values. Raises CsvError.
    """
    lines = _lines(raw, longest_line)
    delimiter, before, rest = _delimiter_and_rows(lines)
    # A quote after a blank opens a quoted field, too.
    reader = csv.reader(rest, delimiter=delimiter, strict=True, skipinitialspace=True)
    line = before + 1
    try:
        header = _header(_filled(next(reader, []), 0), columns, optional, line)
        yield line, header
        line = before + reader.line_num + 1
        for fields in reader:
            if any(fields) and any(field.strip() for field in fields):
                yield line, _filled(fields, len(header))
            line = before + reader.line_num + 1
    except csv.Error as error:
        raise CsvError(f"line {line}: expected CSV with every quote closed; {error}") from error


def _filled(fields: list[str], least: int) -> list[str]:
    """Returns the fields without empty ones at the end, which some spreadsheets write, but at least `least`."""
    count = len(fields)
    while count > least and not canonical(fields[count - 1]):
        count -= 1
    return fields[:count]


def _lines(raw: Any, longest: int) -> Iterator[str]:
    """Yields each line with its end. Bytes that are not UTF-8 are read as escapes, so that their line is known."""
    buffered = io.BufferedReader(raw)
    start = buffered.peek(4)[:4]
    if kind := _NOT_TEXT.get(start[:2]):
        raise CsvError(f"line 1: expected CSV text, found {kind}")
    if encoding := _encoding_of(start):
        raise CsvError(f"line 1: expected UTF-8, found {encoding}; save the file as CSV UTF-8")
    text = io.TextIOWrapper(buffered, encoding="utf-8-sig", errors="surrogateescape", newline="")
    number = 0
    while line := text.readline(longest + 2):
        number += 1
        if len(line) > longest and len(line.rstrip("\r\n")) > longest:
            raise CsvError(f"line {number}, character {longest + 1}: expected a line of at most {longest:,} characters")
        if not line.isascii():
            _check_utf_8(line, number)
        yield line


def _encoding_of(start: bytes) -> str:
    """Names the encoding of a file that begins with these bytes, if it is not UTF-8; else an empty string."""
    if start in {b"\xff\xfe\0\0", b"\0\0\xfe\xff"} or (len(start) == 4 and start.count(0) == 3):
        return "UTF-32"
    return "UTF-16" if start[:2] in {b"\xff\xfe", b"\xfe\xff"} or (len(start) == 4 and start.count(0) == 2) else ""


def _check_utf_8(line: str, number: int) -> None:
    try:
        line.encode()
    except UnicodeEncodeError as error:
        byte = bytes([ord(line[error.start]) - _FIRST_ESCAPE])
        try:
            found = f"{byte.decode('cp1252')!r} in Windows-1252"
        except UnicodeDecodeError:
            found = f"the byte {byte.hex().upper()}"
        place = f"line {number}, character {error.start + 1}"
        raise CsvError(f"{place}: expected UTF-8, found {found}; save the file as CSV UTF-8") from error


def _delimiter_and_rows(lines: Iterator[str]) -> tuple[str, int, Iterable[str]]:
    """Returns the delimiter, the number of lines before the header, and the lines from the header on."""
    named = ""
    for before, line in enumerate(lines):
        if match := _SEP_LINE.fullmatch(line):
            named = match[1]
        elif line.strip(_DELIMITERS + " \r\n"):
            return named or max(_DELIMITERS, key=line.count), before, chain([line], lines)
    return ",", 0, ()


def _header(fields: Sequence[str], columns: Sequence[str], optional: Set[str], line: int) -> list[str]:
    expected = f"expected {', '.join(columns)}"
    if not fields:
        raise CsvError(f"line {line}: expected the columns {', '.join(columns)}; the file is empty")
    header = [canonical(field).lower() for field in fields]
    for number, name in enumerate(header, start=1):
        if name not in columns or name in header[: number - 1]:
            problem = "a duplicate" if name in columns else "unknown"
            raise CsvError(f"line {line}, column {number}: {fields[number - 1][:40]!r} is {problem}; {expected}")
    if missing := [name for name in columns if name not in header and name not in optional]:
        raise CsvError(f"line {line}: the column {missing[0]} is missing; {expected}")
    return header
