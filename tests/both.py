"""Runs the tests on SQLite and on a real PostgreSQL: `python -m tests.both [--deep] [pytest's options]`."""

import os
import subprocess
import sys

from tests.postgresql import private_postgresql


def run_pytest(database_url: str, arguments: list[str]) -> int:
    environment = os.environ | {"DATABASE_URL": database_url}
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], env=environment, check=False).returncode


def main(arguments: list[str]) -> int:
    deep = "--deep" in arguments
    arguments = ["-m", "deep" if deep else "not deep", *(word for word in arguments if word != "--deep")]
    print("== SQLite", flush=True)
    on_sqlite = run_pytest("sqlite:///var/loyalty.sqlite3", arguments)
    print("== PostgreSQL", flush=True)
    with private_postgresql() as url:
        on_postgresql = run_pytest(url, arguments)
    return on_sqlite or on_postgresql


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
