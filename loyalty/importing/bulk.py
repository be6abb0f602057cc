"""Many rows into a table at once: by COPY where the database has it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from loyalty.ledger.sql import places

ROWS_AT_ONCE = 5_000


@contextmanager
def rows_into(cursor: Any, table: str, columns: str = "") -> Iterator[Callable[[tuple[object, ...]], object]]:
    """Gives what takes a row for the table; all are written once it is left. Until then the connection is busy."""
    named = f"({columns})" if columns else ""
    if connection.vendor == "postgresql":
        # What the driver has sent is written while the next rows are made.
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
    """PostgreSQL has no statistics yet of what this transaction wrote, and would plan for empty tables."""
    if connection.vendor == "postgresql":
        for table in tables:
            cursor.execute(f"ANALYZE {table}")
