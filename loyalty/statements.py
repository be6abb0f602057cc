"""Hand-written SQL in portions that both databases take, run in as few round trips as each allows."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from loyalty.points import to_thousandths

# SQL with %s for its parameters, and the parameters.
Statement = tuple[str, list[Any]]

# SQLite takes 32,766 parameters and PostgreSQL 65,535.
ROWS_AT_ONCE = 2_000
PARAMETERS_AT_ONCE = 60_000


def insert_into(table: str, *rows: Mapping[str, object]) -> Statement:
    """An INSERT of the rows, each a mapping of the same columns to values; a Decimal is an amount of points."""
    columns = list(rows[0])
    row_places = f"({places(columns)})"
    params = [_adapted(row[column]) for row in rows for column in columns]
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row_places] * len(rows))}", params


def insert_all_into(table: str, rows: Sequence[Mapping[str, object]]) -> list[Statement]:
    """As many INSERTs of the rows as the databases' limits of parameters ask for."""
    return [insert_into(table, *rows[start : start + ROWS_AT_ONCE]) for start in range(0, len(rows), ROWS_AT_ONCE)]


def update(table: str, changes: Mapping[str, object], *, org_id: int, row_id: int) -> Statement:
    """An UPDATE of one row: the columns to change, with their new values."""
    columns = ", ".join(f"{column} = %s" for column in changes)
    values = [_adapted(value) for value in changes.values()]
    return f"UPDATE {table} SET {columns} WHERE org_id = %s AND id = %s", [*values, org_id, row_id]


def add_points(table: str, column: str, *, org_id: int, points: Mapping[int, Decimal]) -> list[Statement]:
    """UPDATEs that add points, negative to take them, to a column of the rows with these ids, in their order."""
    ids = sorted(points)
    return [
        _add_points(table, column, org_id, {row_id: points[row_id] for row_id in ids[start : start + ROWS_AT_ONCE]})
        for start in range(0, len(ids), ROWS_AT_ONCE)
    ]


def _add_points(table: str, column: str, org_id: int, points: Mapping[int, Decimal]) -> Statement:
    values = ", ".join(["(CAST(%s AS bigint), CAST(%s AS bigint))"] * len(points))
    params = [_adapted(value) for row in points.items() for value in row]
    # Both databases name the columns of VALUES column1 and column2. The sum keeps PostgreSQL from looking the rows
    # up by an index that begins with the org, which it does where it has no statistics of that org yet.
    return (
        f"UPDATE {table} SET {column} = {column} + moved.column2 FROM (VALUES {values}) AS moved"
        f" WHERE {table}.org_id + 0 = %s AND {table}.id = moved.column1",
        [*params, org_id],
    )


def places(values: Collection[object]) -> str:
    """As many placeholders as there are values."""
    return ", ".join(["%s"] * len(values))


def execute_together(statements: Sequence[Statement]) -> None:
    """Runs writes that do not read each other's rows: on PostgreSQL as one statement, or few if they are very large.

    Give parents before children: SQLite looks for the parent when the child is written.
    """
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            for sql, params in statements:
                cursor.execute(sql, params)
            return
        for batch in _batches(statements):
            steps = ", ".join(f"step_{number} AS ({sql})" for number, (sql, _) in enumerate(batch))
            cursor.execute(*_sent_once(f"WITH {steps} SELECT", [param for _, params in batch for param in params]))


def _sent_once(sql: str, params: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    """The statement with a name for each number and time that differs, and for each text.

    psycopg keeps what it made of a statement if that has no more than 50 parameters; a reversal of one lot has 70
    places for 35 values, and to make it anew cost more than all the rules.
    """
    names: dict[tuple[object, ...], str] = {}
    *parts, end = sql.split("%s")
    text: list[str] = []
    for place, (part, value) in enumerate(zip(parts, params, strict=True)):
        # PostgreSQL learns the type of a text from its column, and two columns may have two types.
        key = (place, value) if isinstance(value, str) else (type(value), value)
        text += part, "NULL" if value is None else f"%({names.setdefault(key, f'p{len(names)}')})s"
    return "".join([*text, end]), {name: value for (_, value), name in names.items()}


def _batches(statements: Sequence[Statement]) -> list[list[Statement]]:
    """The statements in their order, no batch with more parameters than PostgreSQL takes."""
    batches: list[list[Statement]] = [[]]
    room = PARAMETERS_AT_ONCE
    for statement in statements:
        room -= len(statement[1])
        if room < 0:
            batches.append([])
            room = PARAMETERS_AT_ONCE - len(statement[1])
        batches[-1].append(statement)
    return batches


def _adapted(value: object) -> object:
    """As the database keeps it: points as whole thousandths, and on SQLite times as text in UTC."""
    if isinstance(value, Decimal):
        return to_thousandths(value)
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value
