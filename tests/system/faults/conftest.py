"""The stage of each fault: a database with a ledger, clients, and a verdict that goes into a report."""

import csv
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.serving import manage
from tests.system.faults.load import SECRET, Journal, Load
from tests.system.faults.machines import ROOT, Database, Server, environment_of, wait_until

CUSTOMERS = 40
REPORT = ROOT / "var" / "faults.json"
SERVED_AGAIN_WITHIN_SECONDS = 10
ANSWERED_WITHIN_SECONDS = 5
ORG, ON = "100737", "Allow_points_redemption_reversal"

_reports: list[dict[str, Any]] = []


@dataclass
class Stage:
    """A migrated database with a ledger, and the redemptions that clients reverse."""

    url: str
    database: Database | None
    redemptions: list[tuple[str, int]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return environment_of(self.url)

    @contextmanager
    def under_load(
        self, name: str, *servers: Server, seen: str = "", through: Callable[[], Any] | None = None
    ) -> "Iterator[Fault]":
        """Runs clients while the block breaks and repairs something, waits for normal service, and judges the fault.

        The clients use any of the servers, or connect by `through`. `seen` is the status and code that some of them
        must have received meanwhile.
        """
        fault = Fault(name, self, seen)
        connect = [through] if through is not None else [server.connect for server in servers]
        with Load(connect, self.redemptions, name=f"fault-{time.time_ns()}") as load:
            fault.journal = load.journal
            wait_until(lambda: load.answered() >= 30)
            yield fault
            repaired, answered = time.monotonic(), load.answered()
            wait_until(lambda: load.answered() >= answered + 30)
            fault.recovery_seconds = round(time.monotonic() - repaired, 2)
        fault.judge(load)


@dataclass
class Fault:
    """What was broken, how often, and the result."""

    name: str
    stage: Stage
    seen: str = ""
    injected: int = 0
    recovery_seconds: float = 0
    refused_seconds: float = 0
    slowest_seconds: float = 0
    # Of a failover: from the fault to the election, and from there to the first call that is accepted.
    elected_seconds: float = 0
    accepted_seconds: float = 0
    journal: Journal = field(default_factory=Journal)

    def judge(self, load: Load) -> None:
        """Adds to the report; fails if anything was lost, duplicated, left without an answer, or answered with 500."""
        journal, stored = load.journal, _stored(self.stage, load.name)
        self.slowest_seconds = round(journal.slowest_seconds, 2)
        if journal.refused_at:
            self.refused_seconds = round(max(journal.refused_at) - min(journal.refused_at), 2)
        answered = journal.accepted()
        problems = {
            "nothing was injected": not self.injected,
            "no client noticed the fault": bool(self.seen) and not journal.codes[self.seen],
            "no points moved": not stored,
            "a key was left without an answer": bool(journal.unanswered),
            "an answer was 500": any(code.startswith("500") for code in journal.codes),
            "a movement was lost": not set(answered.items()) <= set(stored.items()),
            "a movement was stored that no client received": not set(stored.items()) <= set(answered.items()),
            "a law of the ledger is broken": not self._is_sound(),
            "normal service resumed late": self.recovery_seconds > SERVED_AGAIN_WITHIN_SECONDS,
        }
        _reports.append(
            {
                "fault": self.name,
                "database": "PostgreSQL" if self.stage.database else "SQLite",
                "injected": self.injected,
                "requests": len(journal.answers),
                "tries": journal.tries,
                "answers": dict(sorted(journal.codes.items())),
                "movements": len(stored),
                "refused_seconds": self.refused_seconds,
                "recovery_seconds": self.recovery_seconds,
                "slowest_seconds": self.slowest_seconds,
                "elected_seconds": self.elected_seconds,
                "accepted_seconds": self.accepted_seconds,
                "problems": [problem for problem, is_so in problems.items() if is_so],
            }
        )
        assert not _reports[-1]["problems"], _reports[-1]

    def _is_sound(self) -> bool:
        return bool(json.loads(manage(self.stage.environment, ("verify_ledger", "--json")))["ok"])


def _stored(stage: Stage, name: str) -> dict[str, str]:
    """The stored movement of each of the load's keys."""
    sql = (
        "SELECT attempt.idempotency_key, COALESCE(reversal.public_id, redemption.public_id)"
        " FROM reversals_attempt attempt"
        " LEFT JOIN reversals_reversal reversal"
        " ON reversal.org_id = attempt.org_id AND reversal.id = attempt.reversal_id"
        " LEFT JOIN loyalty_redemption redemption"
        " ON redemption.org_id = attempt.org_id AND redemption.id = attempt.redemption_id"
        " WHERE attempt.holds_key AND attempt.code IS NULL AND attempt.idempotency_key LIKE "
    )
    return dict(_rows(stage, f"{sql}'{name}-%'"))


def _rows(stage: Stage, sql: str) -> list[tuple[Any, ...]]:
    if stage.database is not None:
        return stage.database.rows(sql.replace("%", "%%"))
    with sqlite3.connect(stage.url.removeprefix("sqlite:///")) as file:
        return file.execute(sql).fetchall()


def make_stage(url: str, database: Database | None, folder: Path) -> Stage:
    """Migrates the database, and imports customers with one redemption of 1,000 points each."""
    stage = Stage(url, database)
    names = ("customers.csv", "points.csv", "redemptions.csv")
    with ExitStack() as files:
        _write_ledger(stage, *(csv.writer(files.enter_context((folder / name).open("w"))) for name in names))
    manage(
        stage.environment,
        ("migrate", "-v0"),
        ("create_org", ORG, "Faults"),
        ("create_program", ORG, "973", "Main"),
        ("create_api_client", ORG, "till.1", "--secret", SECRET),
        ("set_emf", ORG, ON, "yes", "--ticket", "T-1", "--reason", "faults"),
        ("import_ledger", str(folder)),
    )
    return stage


def _write_ledger(stage: Stage, customers: Any, points: Any, redemptions: Any) -> None:
    customers.writerow(["org_id", "customer_id", "status", "mobile", "email", "external_id", "card_number"])
    points.writerow(["org_id", "program_id", "customer_id", "lot_ref", "points", "awarded_at", "expires_at"])
    redemptions.writerow(
        [
            "org_id",
            "program_id",
            "customer_id",
            "redemption_id",
            "points",
            "redeemed_at",
            "transaction_number",
            "external_reference_number",
        ]
    )
    for number in range(1, CUSTOMERS + 1):
        customers.writerow([ORG, number, "ACTIVE", "", "", "", ""])
        for lot, amount in enumerate((600, 900)):
            points.writerow([ORG, 973, number, f"L{number}-{lot}", amount, "2026-01-01T00:00:00Z", ""])
        redemptions.writerow([ORG, 973, number, f"R{number}", 1000, "2026-02-01T00:00:00Z", "", ""])
        stage.redemptions.append((f"R{number}", number))


@pytest.fixture(scope="session")
def once() -> None:
    """Skips on SQLite: each fault starts its own database, so one of the two runs of `make system` is enough."""
    if connection.vendor != "postgresql":
        pytest.skip("runs once, with the tests on PostgreSQL")


@pytest.fixture(scope="session")
def stage(once: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage on PostgreSQL."""
    database = Database()
    yield make_stage(database.url, database, tmp_path_factory.mktemp("ledger"))
    database.remove()


@pytest.fixture(scope="session")
def sqlite_stage(once: None, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A stage on SQLite."""
    url = f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'faults.sqlite3'}"
    return make_stage(url, None, tmp_path_factory.mktemp("ledger"))


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers, and stops those that the test left running."""
    servers: list[Server] = []

    def start(stage: Stage, **options: Any) -> Server:
        environment = stage.environment | options.pop("environment", {})
        servers.append(Server(environment, **options))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Writes the report of the run, and shows it."""
    if not _reports:
        return
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(_reports, indent=1) + "\n")
    terminalreporter.section("faults")
    for report in _reports:
        result = "; ".join(report["problems"]) or "passed"
        election = (
            f", another primary after {report['elected_seconds']} s, and calls {report['accepted_seconds']} s later"
            if report["elected_seconds"] or report["accepted_seconds"]
            else ""
        )
        terminalreporter.line(
            f"{report['fault']}, {report['database']}: {report['injected']} injected, {report['requests']} requests in"
            f" {report['tries']} attempts, {report['movements']} movements, refused for"
            f" {report['refused_seconds']} s, served again after {report['recovery_seconds']} s{election}: {result}"
        )
