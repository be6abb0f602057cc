"""Migrated databases of which tests take copies: migrating takes many seconds, a copy none."""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "var" / "templates"
CODE = ("config", "loyalty", "reversals")


def make_templates(server: str) -> None:
    """Creates the templates of SQLite and of the PostgreSQL server at the same time, if they are missing."""
    with ThreadPoolExecutor() as threads:
        for made in (threads.submit(_migrated_sqlite), threads.submit(migrated_postgresql, server)):
            made.result()


def copy_migrated_sqlite(path: Path) -> None:
    """Copies a migrated database to `path`."""
    shutil.copy(_migrated_sqlite(), path)


@cache
def _migrated_sqlite() -> Path:
    """The file for the current code. Creates it if it is missing, and removes older ones."""
    made = FOLDER / f"{_digest()}.sqlite3"
    if made.exists():
        return made
    FOLDER.mkdir(parents=True, exist_ok=True)
    older = set(FOLDER.glob("*.sqlite3"))
    # Renames the file when it is complete, because another run may look for it or create it at the same time.
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        begun = Path(folder) / "migrated.sqlite3"
        _migrate(f"sqlite:///{begun}")
        begun.rename(made)
    for file in older:
        file.unlink(missing_ok=True)
    return made


def migrated_postgresql(server: str) -> str:
    """The name of the server's template for this state of the code, which is created when it is missing."""
    name = f"migrated_{_digest()}"
    with psycopg.connect(url_of(server, "postgres"), autocommit=True) as session:
        # Another run on this server waits here and then finds the template. A lock is of one database.
        session.execute("SELECT pg_advisory_lock(1)")
        if not session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            session.execute("DROP DATABASE IF EXISTS migrating")
            session.execute("CREATE DATABASE migrating")
            _migrate(url_of(server, "migrating"))
            session.execute(f"ALTER DATABASE migrating RENAME TO {name}")
    return name


def url_of(server: str, name: str) -> str:
    return urlsplit(server)._replace(path=f"/{name}").geturl()


def _migrate(url: str) -> None:
    words = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    environment = os.environ | {"DATABASE_URL": url, "SECRET_KEY": "to-migrate"}
    subprocess.run(words, cwd=ROOT, env=environment, check=True)


def _digest() -> str:
    """A digest of the code and of the locked versions, because migrations import both."""
    files = sorted(file for folder in CODE for file in (ROOT / folder).rglob("*.py"))
    digest = sha256()
    for file in (ROOT / "requirements.lock", *files):
        digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
