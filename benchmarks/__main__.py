"""Measures how fast the project is, on small and on large ledgers; run by `make bench`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import ledgers, past_one_machine
from benchmarks.machines import POSTGRESQL, Ledger, Measured
from benchmarks.results import Results
from tests import environment  # noqa: F401  sets the environment before Django reads it
from tests.system.faults.machines import Database

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
# The other calls on the ledger of MAIN redemptions: the kind of call, and the number of concurrent clients.
MAIN = 100_000
KINDS = (
    ("constant", 8),
    ("plain", 8),
    ("reverse", 16),
    ("keyed", 8),
    ("refused", 8),
    ("redeem", 8),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="redemptions of each ledger")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=4, help="duration of each run")
    options = parser.parse_args()
    results = Results()
    together, results.looks = past_one_machine.measure(options.rounds, options.seconds)
    results.measured |= together
    with ExitStack() as stack:
        postgresql = Database()
        stack.callback(postgresql.remove)
        postgresql.configure(POSTGRESQL)
        made = [_build(postgresql, rows, results) for rows in sorted(options.sizes)]
        for ledger in made:
            if ledger.rows == MAIN:
                results.measured |= _on_sqlite(ledger, options.rounds, options.seconds)
        _use(made[-1].url)
        from benchmarks import back_office, importing, round_trips

        results.sent = round_trips.measure(made[-1].rows)
        with _scripts(made) as scripts:
            for ledger in made:
                ledger.serve()
                stack.callback(ledger.server.stop)
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", flush=True)
                for name, run in _runs(made, scripts, options.seconds):
                    results.measured[name].append(run())
        results.write(made)
        results.pages = back_office.measure(made[-1].rows)
        results.took["verify_ledger of the largest"] = _time_of(made[-1].url, "verify_ledger")
        results.imported = importing.measure(postgresql)
        results.write(made)
    return 0


def _build(postgresql: Database, rows: int, results: Results) -> Ledger:
    name = f"ledger_{rows}"
    with postgresql.connected() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    ledger = Ledger(postgresql.url.replace("/postgres?", f"/{name}?"), rows)
    ledger.processes["PostgreSQL"] = postgresql.process_id
    started = time.monotonic()
    ledgers.build(ledger.url, rows)
    results.took[f"building {rows:,}"] = time.monotonic() - started
    print(f"{rows:,} redemptions in {time.monotonic() - started:.0f} s", flush=True)
    return ledger


def _use(url: str) -> None:
    """Connects this process to that ledger, too."""
    os.environ |= {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "benchmarks.settings"}
    import logging

    import django

    django.setup()
    logging.disable(logging.INFO)


@contextmanager
def _scripts(made: list[Ledger]) -> Iterator[dict[int, Path]]:
    """Writes a script for pgbench for each ledger, because the ids of program and client differ."""
    with tempfile.TemporaryDirectory() as folder:
        scripts = {}
        for ledger in made:
            scripts[ledger.rows] = Path(folder) / f"{ledger.rows}.sql"
            words = [sys.executable, "-m", "benchmarks.statements", str(ledger.rows)]
            text = subprocess.run(
                words, env=os.environ | {"DATABASE_URL": ledger.url}, capture_output=True, text=True, check=True
            ).stdout
            scripts[ledger.rows].write_text(text)
        yield scripts


def _runs(
    made: list[Ledger], scripts: dict[int, Path], seconds: int
) -> Iterator[tuple[tuple[str, int, int], Callable[[], Measured]]]:
    """Each run of a round with its name: kind of call, number of clients, redemptions of the ledger."""
    for ledger in made:
        for clients in (8, 32):
            yield (
                ("pgbench", clients, ledger.rows),
                lambda ledger=ledger, clients=clients: ledger.pgbench(
                    scripts[ledger.rows], clients=clients, seconds=seconds
                ),
            )
            yield (
                ("reverse", clients, ledger.rows),
                lambda ledger=ledger, clients=clients: ledger.ask("reverse", clients=clients, seconds=seconds),
            )
    for ledger in made:
        if ledger.rows != MAIN:
            continue
        for kind, clients in KINDS:
            yield (
                (kind, clients, ledger.rows),
                lambda ledger=ledger, kind=kind, clients=clients: ledger.ask(kind, clients=clients, seconds=seconds),
            )


def _on_sqlite(ledger: Ledger, rounds: int, seconds: int) -> dict[tuple[str, int, int], list[Measured]]:
    """Runs on a fresh copy of the ledger, in a separate process that works on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        url = ledgers.copy_to_sqlite(ledger.url, Path(folder) / "ledger.sqlite3")
        words = [sys.executable, "-m", "benchmarks.on_sqlite", url, *map(str, (ledger.rows, rounds, seconds))]
        done = subprocess.run(words, env=ledgers.environment_of(url), stdout=subprocess.PIPE, check=True)
    return {
        (kind, clients, ledger.rows): [Measured(**run) for run in runs]
        for kind, clients, runs in json.loads(done.stdout)
    }


def _time_of(url: str, *words: str) -> float:
    """The seconds that a management command takes, including the start of Python."""
    started = time.monotonic()
    command = [sys.executable, "manage.py", *words]
    subprocess.run(command, env=ledgers.environment_of(url), stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
