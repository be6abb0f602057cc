"""Builds raw SQL statements within both databases' limits, and runs them in as few round trips as possible."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from django.db import connection
from psycopg import ClientCursor

from loyalty.ledger.distribution import is_distributed, org_of
from loyalty.ledger.points import to_thousandths

# SQL with %s for its parameters, and the parameters.
Statement = tuple[str, list[Any]]

# SQLite allows 32,766 parameters in a statement, PostgreSQL 65,535.
ROWS_AT_ONCE = 2_000
PARAMETERS_AT_ONCE = 60_000

# Nearly all calls use a few shapes of statements, and building one costs more time than evaluating all the rules.
_cached = lru_cache(maxsize=128)


def insert_into(table: str, *rows: Mapping[str, object]) -> Statement:
    """Returns an INSERT of the rows, each a mapping of the same columns to values. A Decimal is an amount of points."""
    params = _adapted(value for row in rows for value in row.values())
    return _insert(table, tuple(rows[0]), len(rows)), params


@_cached
def _insert(table: str, columns: Collection[str], rows: int) -> str:
    row_places = f"({places(columns)})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row_places] * rows)}"


def insert_all_into(table: str, rows: Sequence[Mapping[str, object]]) -> list[Statement]:
    """Returns the INSERTs of the rows, each within the databases' limits of parameters."""
    return [insert_into(table, *rows[start : start + ROWS_AT_ONCE]) for start in range(0, len(rows), ROWS_AT_ONCE)]


def update(table: str, changes: Mapping[str, object], *, org_id: int, row_id: int) -> Statement:
    """Returns an UPDATE of one row. `changes` maps columns to new values."""
    columns = ", ".join(f"{column} = %s" for column in changes)
    values = _adapted(changes.values())
    return f"UPDATE {table} SET {columns} WHERE org_id = %s AND id = %s", [*values, org_id, row_id]


def add_points(
    table: str, column: str, *, org_id: int, points: Mapping[int, Decimal], out_of: str | None = None
) -> list[Statement]:
    """Returns UPDATEs that add points to a column, by row id, in the order of the ids. Negative points are subtracted.

    With `out_of`, the points are moved: they are subtracted from that column of the same row.
    """
    if len(points) == 1:  # the usual case, for which PostgreSQL and a cluster need no join
        [(row_id, amount)] = points.items()
        changes = [to_thousandths(amount)] * (1 if out_of is None else 2)
        return [(_addition_to_one(table, column, out_of), [*changes, org_id, row_id])]
    ids = sorted(points)
    batches = [ids[start : start + ROWS_AT_ONCE] for start in range(0, len(ids), ROWS_AT_ONCE)]
    return [
        (
            _addition(table, column, out_of, len(batch)),
            [*(value for row_id in batch for value in (row_id, to_thousandths(points[row_id]))), org_id],
        )
        for batch in batches
    ]


@_cached
def _addition_to_one(table: str, column: str, out_of: str | None) -> str:
    taken = f", {out_of} = {out_of} - %s" if out_of is not None else ""
    return f"UPDATE {table} SET {column} = {column} + %s{taken} WHERE {org_of(table)} = %s AND id = %s"


@_cached
def _addition(table: str, column: str, out_of: str | None, rows: int) -> str:
    taken = f", {out_of} = {out_of} - moved.column2" if out_of is not None else ""
    values = ", ".join(["(CAST(%s AS bigint), CAST(%s AS bigint))"] * rows)
    # Both databases name the columns of VALUES column1 and column2.
    return (
        f"UPDATE {table} SET {column} = {column} + moved.column2{taken} FROM (VALUES {values}) AS moved"
        f" WHERE {org_of(table)} = %s AND {table}.id = moved.column1"
    )


def places(values: Collection[object]) -> str:
    """Returns a placeholder for each value, separated by commas."""
    return ", ".join(["%s"] * len(values))


def execute_together(statements: Sequence[Statement]) -> None:
    """Executes writes in one statement on PostgreSQL (several if they are very large). They must be independent.

    Note: the writes do not see each other's rows. List parents before children, because SQLite looks for the parent
    when it writes the child.
    """
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            for sql, params in statements:
                cursor.execute(sql, params)
            return
        if is_distributed():
            _execute_one_after_the_other(statements)
            return
        for batch in _batches(statements):
            sql = _one_of(tuple(sql for sql, _ in batch))
            cursor.execute(sql, [param for _, params in batch for param in params])


def _execute_one_after_the_other(statements: Sequence[Statement]) -> None:
    """Executes the statements in one round trip, for a cluster. It would split a WITH, and store each step's result.

    Several statements in one text cannot have parameters, so psycopg writes the values into it.
    """
    client = ClientCursor(connection.connection)
    with connection.cursor() as cursor:
        cursor.execute("; ".join(client.mogrify(sql, params) for sql, params in statements))


@_cached
def _one_of(sqls: tuple[str, ...]) -> str:
    steps = ", ".join(f"step_{number} AS ({sql})" for number, sql in enumerate(sqls))
    return f"WITH {steps} SELECT"


def _batches(statements: Sequence[Statement]) -> list[list[Statement]]:
    """Splits the statements, in their order, into batches of at most PARAMETERS_AT_ONCE parameters."""
    batches: list[list[Statement]] = [[]]
    remaining = PARAMETERS_AT_ONCE
    for statement in statements:
        remaining -= len(statement[1])
        if remaining < 0:
            batches.append([])
            remaining = PARAMETERS_AT_ONCE - len(statement[1])
        batches[-1].append(statement)
    return batches


def _adapted(values: Iterable[object]) -> list[Any]:
    """Converts values to their stored form: points to whole thousandths and, on SQLite, times to text in UTC."""
    on_sqlite = connection.vendor == "sqlite"
    adapted: list[Any] = []
    for value in values:
        if isinstance(value, Decimal):
            value = to_thousandths(value)
        elif on_sqlite and isinstance(value, datetime):
            value = connection.ops.adapt_datetimefield_value(value)
        adapted.append(value)
    return adapted
