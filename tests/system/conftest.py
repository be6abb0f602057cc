"""A database of its own for servers that a test starts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from tests.postgresql import private_postgresql
from tests.serving import with_demo_ledger


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of servers on a database of their own, of the kind that this run tests."""
    if connection.vendor == "sqlite":
        yield with_demo_ledger(f"sqlite:///{tmp_path}/server.sqlite3")
        return
    with private_postgresql() as url:
        yield with_demo_ledger(url)
