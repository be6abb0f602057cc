"""Writes lists as XLSX. Ids, times and all other texts are text, which no spreadsheet program runs or changes."""

import tempfile
from collections.abc import Iterable
from decimal import Decimal
from typing import IO, Any

import xlsxwriter

from reversals.admin.export import Cell

# A sheet has 1,048,576 rows, and the first is the header.
MOST_ROWS = 1_048_575
# A spreadsheet program keeps 15 digits of a number.
MOST_DIGITS = 15
WIDTH = 22


def write(header: Iterable[str], rows: Iterable[list[Cell]]) -> IO[bytes]:
    """Returns a file with the rows. Memory does not grow with them."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    book = xlsxwriter.Workbook(file, {"constant_memory": True})
    sheet = book.add_worksheet()
    sheet.freeze_panes(1, 0)
    names = list(header)
    sheet.set_column(0, len(names) - 1, WIDTH)
    bold = book.add_format({"bold": True})
    for column, name in enumerate(names):
        sheet.write_string(0, column, name, bold)
    for number, row in enumerate(rows, start=1):
        for column, cell in enumerate(row):
            _write(sheet, number, column, cell)
    book.close()
    file.seek(0)
    return file


def _write(sheet: Any, row: int, column: int, cell: Cell) -> None:
    if isinstance(cell, Decimal) and len(cell.as_tuple().digits) <= MOST_DIGITS:
        sheet.write_number(row, column, float(cell))
    else:
        sheet.write_string(row, column, str(cell))
