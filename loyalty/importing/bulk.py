"""Writes many rows into a table, with COPY on PostgreSQL."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from loyalty.ledger.sql import places

ROWS_AT_ONCE = 5_000


@contextmanager
def rows_into(cursor: Any, table: str, columns: str = "") -> Iterator[Callable[[tuple[object, ...]], object]]:
    """Yields a function that adds one row to the table. All rows are written when the context ends.

    Note: until then, PostgreSQL's connection cannot run another statement.
    """
    named = f"({columns})" if columns else ""
    if connection.vendor == "postgresql":
        # PostgreSQL writes the rows sent so far while the caller computes the next ones.
        with connection.wrap_database_errors, cursor.copy(f"COPY {table} {named} FROM STDIN") as copy:
            yield copy.write_row
        return
    rows: list[tuple[object, ...]] = []

    def write() -> None:
        cursor.executemany(f"INSERT INTO {table} {named} VALUES ({places(rows[0])})", rows)
        rows.clear()

    def add(row: tuple[object, ...]) -> None:
        rows.append(row)
        if len(rows) == ROWS_AT_ONCE:
            write()

    yield add
    if rows:
        write()


def analyze(cursor: Any, *tables: str) -> None:
    """Runs ANALYZE on PostgreSQL, which otherwise would plan for empty tables in the transaction that filled them."""
    if connection.vendor == "postgresql":
        for table in tables:
            cursor.execute(f"ANALYZE {table}")
