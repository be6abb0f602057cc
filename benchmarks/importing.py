"""Times the import of a ledger from CSV files, as a new org would bring them."""

import csv
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.ledgers import ORG, environment_of
from tests.serving import manage
from tests.system.faults.machines import Database

CUSTOMERS, LOTS, REDEMPTIONS = 5_000, 200_000, 100_000
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def measure(postgresql: Database) -> dict[str, float]:
    """The rows imported into PostgreSQL a minute, including the start of Python."""
    with postgresql.connected() as connection:
        connection.execute("CREATE DATABASE imported")
    environment = environment_of(postgresql.url.replace("/postgres?", "/imported?"))
    manage(
        environment,
        ("migrate", "-v0"),
        ("create_org", str(ORG), "Brand 1"),
        ("create_program", str(ORG), "973", "Main"),
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = _write(Path(folder))
        started = time.monotonic()
        manage(environment, ("import_ledger", folder))
        return {f"import of {rows:,} rows into PostgreSQL": rows / (time.monotonic() - started) * 60}


def _write(folder: Path) -> int:
    """Writes a ledger in which each customer has 40 lots and redeems 20 times; returns its number of rows."""
    files: dict[str, tuple[str, Iterable[Sequence[object]]]] = {
        "customers": (
            "org_id customer_id status mobile email external_id card_number",
            ([ORG, number + 1, "ACTIVE", 919800000000 + number, "", "", ""] for number in range(CUSTOMERS)),
        ),
        "points": (
            "org_id program_id customer_id lot_ref points awarded_at expires_at",
            ([*_owner(number), f"L{number}", 40, _at(number / LOTS), _at(5)] for number in range(LOTS)),
        ),
        "redemptions": (
            "org_id program_id customer_id redemption_id points redeemed_at"
            " transaction_number external_reference_number",
            (
                [*_owner(number), f"R{number}", 50, _at(1.1 + number / REDEMPTIONS), f"T{number}", ""]
                for number in range(REDEMPTIONS)
            ),
        ),
    }
    for name, (columns, rows) in files.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns.split(), *rows])
    return CUSTOMERS + LOTS + REDEMPTIONS


def _owner(number: int) -> list[int]:
    return [ORG, 973, number % CUSTOMERS + 1]


def _at(part: float) -> str:
    """The time `part` hundred days after the beginning."""
    return (BEGIN + timedelta(days=100 * part)).isoformat(timespec="seconds")
