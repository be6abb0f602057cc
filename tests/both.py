"""Runs tests on SQLite and on a real PostgreSQL at the same time.

`python -m tests.both [--system | --deep] [pytest options]` runs all folders except `tests/system`. With `--system` it
runs only that folder, and with `--deep` the tests of all folders that take minutes.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import psycopg

from tests.postgresql import private_postgresql
from tests.templates import make_templates, url_of

SQLITE = "sqlite:///var/loyalty.sqlite3"
# No database can change these tests, nor those marked `once`, so they run with SQLite alone.
PURE = ["tests/unit"]
# Processes share each run, so that all of them end at about the same time.
SHARES_ON_SQLITE = [[*PURE, "tests/movements", "tests/database"], ["tests/api"], ["tests/backoffice"]]
SHARES_ON_POSTGRESQL = [["tests/movements", "tests/database"], ["tests/api", "tests/backoffice"]]


def selections(arguments: list[str]) -> tuple[list[list[str]], list[list[str]]]:
    """Returns what each process of pytest is told on SQLite, and on PostgreSQL."""
    options = [word for word in arguments if word not in {"--system", "--deep"}]
    if "--deep" in arguments:
        return [["-m", "deep", *options]], [["-m", "deep", *options]]
    everywhere = ["-m", "not deep and not once", *options]
    options = ["-m", "not deep", *options]
    if "--system" in arguments:
        # In the order of files, because a stack or a stage that several files share takes half a minute to start.
        in_order = ["tests/system", "--randomly-dont-reorganize"]
        return [[*in_order, *options]], [[*in_order, *everywhere]]
    return [[*each, *options] for each in SHARES_ON_SQLITE], [[*each, *everywhere] for each in SHARES_ON_POSTGRESQL]


def start(url: str, words: list[str], output: IO[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"DATABASE_URL": url, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([sys.executable, "-m", "pytest", *words], env=environment, stdout=output, stderr=output)


def main(arguments: list[str]) -> int:
    """Prints what each run said when all have ended, and returns the exit code of one that failed."""
    on_sqlite, on_postgresql = selections(arguments)
    with tempfile.TemporaryDirectory() as folder, private_postgresql() as url:
        make_templates(url)
        planned = [(name_of("SQLite", number), SQLITE, words) for number, words in enumerate(on_sqlite)]
        databases = [url, *(_another_database(url) for _ in on_postgresql[1:])]
        planned += [
            (name_of("PostgreSQL", number), database, words)
            for number, (database, words) in enumerate(zip(databases, on_postgresql, strict=True))
        ]
        runs = {}
        for name, database, words in planned:
            path = Path(folder) / name
            with path.open("w") as output:
                runs[name] = path, start(database, words, output)
        print("Running on SQLite and PostgreSQL; what they say follows when all have ended.", flush=True)
        codes = [run.wait() for _, run in runs.values()]
        for name, (path, _) in runs.items():
            print(f"== {name}", path.read_text(), sep="\n", flush=True)
    return max(codes)


def name_of(database: str, number: int) -> str:
    return f"{database}, share {number + 1}"


def _another_database(url: str) -> str:
    """Returns the URL of a new database: a process names its test database after the one in its URL."""
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("CREATE DATABASE another")
    return url_of(url, "another")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
