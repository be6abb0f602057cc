"""Further cells for tests: migrated databases that a block can make the default database."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
from django.db import connections
from django.db.utils import load_backend

from config.settings import database
from tests.templates import copy_migrated_sqlite, create_migrated_postgresql


@contextmanager
def sqlite_cell(folder: Path) -> Iterator[Any]:
    """Yields a cell on a SQLite file."""
    file = folder / "cell.sqlite3"
    copy_migrated_sqlite(file)
    with patch.dict(os.environ, DATABASE_URL=f"sqlite:///{file}"):
        settings = database("DATABASE_URL")
    yield _cell(connections.settings["default"] | {"TEST": {}} | settings)


@contextmanager
def postgresql_cell(name: str) -> Iterator[Any]:
    """Yields a cell in a new database on the tests' PostgreSQL, and drops the database afterwards."""
    main = connections.settings["default"]
    server = os.environ["DATABASE_URL"]
    create_migrated_postgresql(server, name)
    cell = _cell(main | {"NAME": name})
    yield cell
    cell.close()
    with psycopg.connect(server, autocommit=True) as session:
        session.execute(f"DROP DATABASE {name}")


@contextmanager
def asked(cell: Any) -> Iterator[None]:
    """Makes the cell the default database during the block."""
    mine = connections["default"]
    connections["default"] = cell
    try:
        yield
    finally:
        connections["default"] = mine


def _cell(settings: dict[str, Any]) -> Any:
    return load_backend(settings["ENGINE"]).DatabaseWrapper(settings, "default")
