"""Many rows into a table at once: by COPY where the database has it."""

from typing import Any

from django.db import connection

from loyalty.statements import places

ROWS_AT_ONCE = 5_000


class Bulk:
    """Collects rows for a table and writes them a batch at a time; call `flush` at the end."""

    def __init__(self, cursor: Any, table: str, columns: str = "") -> None:
        self.cursor = cursor
        self.table = table
        self.columns = f"({columns})" if columns else ""
        self.rows: list[tuple[object, ...]] = []

    def add(self, row: tuple[object, ...]) -> None:
        self.rows.append(row)
        if len(self.rows) >= ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if not self.rows:
            return
        if connection.vendor == "postgresql":
            copying = self.cursor.copy(f"COPY {self.table} {self.columns} FROM STDIN")
            with connection.wrap_database_errors, copying as copy:
                for row in self.rows:
                    copy.write_row(row)
        else:
            self.cursor.executemany(
                f"INSERT INTO {self.table} {self.columns} VALUES ({places(self.rows[0])})", self.rows
            )
        self.rows.clear()


def analyze(cursor: Any, *tables: str) -> None:
    """PostgreSQL has no statistics yet of what this transaction wrote, and would plan for empty tables."""
    if connection.vendor == "postgresql":
        for table in tables:
            cursor.execute(f"ANALYZE {table}")
