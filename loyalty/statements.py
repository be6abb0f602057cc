"""Hand-written SQL in portions that both databases take, run in as few round trips as each allows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection

# SQL with %s for its parameters, and the parameters.
Statement = tuple[str, list[Any]]


def insert_into(table: str, *rows: Mapping[str, object]) -> Statement:
    """An INSERT of the rows, each a mapping of the same columns to values."""
    columns = list(rows[0])
    places = f"({', '.join(['%s'] * len(columns))})"
    params = [_adapted(row[column]) for row in rows for column in columns]
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([places] * len(rows))}", params


def execute_together(statements: Sequence[Statement]) -> None:
    """Runs writes that do not read each other's rows: on PostgreSQL as one statement.

    Give parents before children: SQLite looks for the parent when the child is written.
    """
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            for sql, params in statements:
                cursor.execute(sql, params)
            return
        steps = ", ".join(f"step_{number} AS ({sql})" for number, (sql, _) in enumerate(statements))
        cursor.execute(f"WITH {steps} SELECT", [param for _, params in statements for param in params])


def _adapted(value: object) -> object:
    # SQLite keeps times as text in UTC; Django knows the form.
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value
