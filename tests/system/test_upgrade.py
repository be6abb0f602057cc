"""Upgrades a large database from an earlier commit while its code serves keyed calls: none is lost or doubled.

Prints the time of each migration, the longest call and the refusals; docs/upgrade.md has the figures.
"""

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.postgresql import private_postgresql
from tests.serving import ROOT
from tests.system.faults.load import SECRET, Load

pytestmark = [pytest.mark.deep, pytest.mark.usefixtures("on_postgresql")]

ORG, PROGRAM, LARGE_ORG = 100737, 973, 2
# The first version with a back office, from which loyalty.0011 deadlocked, and the first release, 0.2.0.
VERSIONS = {
    "9dc5743": int(os.environ.get("UPGRADE_ROWS", 10_000_000)),
    "c2985aa": int(os.environ.get("UPGRADE_ROWS", 1_000_000)),
}
LONGEST_CALL_SECONDS = 5.0

# {n} attempts of an org without calls, and for ten of them a customer, for fifty a lot and a redemption with a draw.
FILL = (
    "SET session_replication_role = replica",
    "INSERT INTO loyalty_customer (id, org_id, public_id, status, reversals_locked, reversals_lock_reason)"
    " SELECT n, 2, n, 'ACTIVE', FALSE, '' FROM generate_series(1, {n} / 10) n",
    "INSERT INTO loyalty_customeridentifier (id, org_id, customer_id, type, value)"
    " SELECT n, 2, n, 'EXTERNAL_ID', 'E' || n FROM generate_series(1, {n} / 10) n",
    "INSERT INTO loyalty_lot (id, org_id, program_id, customer_id, lot_ref, points_awarded, points_remaining,"
    " awarded_at) SELECT n, 2, 1, 1 + n % ({n} / 10), 'L' || n, 2000, 1000, '2026-01-01'"
    " FROM generate_series(1, {n} / 50) n",
    "INSERT INTO loyalty_redemption (id, org_id, program_id, customer_id, public_id, points, points_reversed,"
    " redeemed_at, transaction_number) SELECT n, 2, 1, 1 + n % ({n} / 10), 'R' || n, 1000, 0, '2026-02-01', ''"
    " FROM generate_series(1, {n} / 50) n",
    "INSERT INTO loyalty_draw (id, org_id, redemption_id, lot_id, position, points, points_reversed)"
    " SELECT n, 2, n, n, 1, 1000, 0 FROM generate_series(1, {n} / 50) n",
    "INSERT INTO reversals_attempt (id, org_id, created_at, request_id, channel, made_by, reason, redemption_id_asked,"
    " external_reference_asked, identifier_type, identifier_masked, idempotency_key, holds_key, fingerprint,"
    " http_status, rule, refusal_reason, reply, is_dry_run, operation)"
    " SELECT n, 2, timestamptz '2026-01-01' + n * interval '1 second', md5(n::text), 'API', 'till', '', 'R' || n, '',"
    " 'ID', '', 'K' || n, TRUE, '', 200, CASE WHEN n % 10 = 0 THEN 'paused' ELSE '' END, '', '{{}}', FALSE, 'REVERSE'"
    " FROM generate_series(1, {n}) n",
    "ANALYZE",
)


class TimedLoad(Load):
    """Also keeps when each call began and how long it took."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.times: list[tuple[float, float]] = []

    def _send(self, key: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        started = time.monotonic()
        answer = super()._send(key, path, body)
        with self.lock:
            self.times.append((started, time.monotonic() - started))
        return answer


@contextmanager
def served(folder: Path, environment: dict[str, str], port: int) -> Iterator[None]:
    """Serves the code in the folder until the end of the block."""
    words = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    granian = str(Path(sys.executable).parent / "granian")
    with (folder / f"server-{port}.log").open("w") as log:
        server = subprocess.Popen(
            [granian, *words, "--blocking-threads", "8", "--no-ws", "config.wsgi:application"],
            cwd=folder, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            _wait_until_served(port)
            yield
        finally:
            server.terminate()
            server.wait(timeout=60)


def _wait_until_served(port: int) -> None:
    for _ in range(300):
        try:
            with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                connection.request("GET", "/openapi.json")
                connection.getresponse().read()
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")


def code_of(commit: str, folder: Path) -> Path:
    """Unpacks the code of the commit into the folder."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip(f"this clone has no commit {commit}; fetch the whole history to run this test")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def run(folder: Path, environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def set_up(old: Path, environment: dict[str, str], url: str, rows: int) -> list[tuple[str, int]]:
    """Migrates with the old code and fills the database; returns redemptions and their customers for the load."""
    run(old, environment, "migrate", "-v0")
    for words in (
        ("create_org", str(ORG), "Demo"),
        ("create_program", str(ORG), str(PROGRAM), "Main"),
        ("create_org", str(LARGE_ORG), "Large"),
        ("create_api_client", str(ORG), "till.1", "--secret", SECRET),
        ("set_emf", str(ORG), "Allow_points_redemption_reversal", "yes", "--ticket", "T", "--reason", "test"),
        ("import_ledger", "reversals/demo_ledger"),
    ):
        run(old, environment, *words)
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("ALTER SYSTEM SET max_wal_size = '8GB'")
        session.execute("SELECT pg_reload_conf()")
        for statement in FILL:
            session.execute(statement.format(n=rows))
        found = session.execute(
            "SELECT redemption.public_id, customer.public_id FROM loyalty_redemption redemption"
            " JOIN loyalty_customer customer ON customer.id = redemption.customer_id WHERE redemption.org_id = %s",
            [ORG],
        )
        return [(str(redemption), customer) for redemption, customer in found.fetchall()]


def migrate_and_print(environment: dict[str, str]) -> float:
    """Migrates with the current code, prints the seconds of each migration, and returns those of all."""
    began = last = time.monotonic()
    words = [sys.executable, "-u", "manage.py", "migrate", "--no-color"]
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        now = time.monotonic()
        print(f"{now - last:7.2f} s  {line.rstrip()}", flush=True)
        last = now
    assert process.wait() == 0
    return last - began


def movements(url: str) -> int:
    """Returns how many reversals and redemptions the org has that calls made."""
    with psycopg.connect(url) as session:
        row = session.execute(
            "SELECT (SELECT COUNT(*) FROM reversals_reversal WHERE org_id = %s)"
            " + (SELECT COUNT(*) FROM reversals_attempt WHERE org_id = %s AND operation = 'REDEEM' AND code IS NULL"
            " AND redemption_id IS NOT NULL AND NOT is_dry_run)",
            [ORG, ORG],
        ).fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.parametrize("commit", VERSIONS)
def test_upgrade_under_load_loses_and_doubles_no_call(commit: str, tmp_path: Path) -> None:
    old = code_of(commit, tmp_path)
    with private_postgresql() as url:
        environment = os.environ | {
            "DATABASE_URL": url,
            "SECRET_KEY": "upgrade" * 8,
            "API_CALLS_PER_MINUTE": "0",
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        redemptions = set_up(old, environment, url, VERSIONS[commit])
        earlier = movements(url)
        ports = [58731, 58732]
        load = TimedLoad(
            [lambda: HTTPConnection("127.0.0.1", ports[0], timeout=30)], redemptions, name=f"upgrade-{commit}"
        )
        with served(old, environment, ports[0]), load:
            time.sleep(10)
            before = load.answered()
            began = time.monotonic()
            seconds = migrate_and_print(environment)
            ended = time.monotonic()
            during = load.answered() - before
            time.sleep(10)  # old code on the new schema
            with served(ROOT, environment, ports[1]):
                load.connect[:] = [lambda: HTTPConnection("127.0.0.1", ports[1], timeout=30)]
                time.sleep(10)
                load.over.set()
                for client in load.clients:
                    client.join()
        calls = [took for start, took in load.times if began - took <= start <= ended]
        print(
            f"{VERSIONS[commit]} attempts: {before / 10:.0f} calls a second before, {during / seconds:.0f} during"
            f" {seconds:.0f} s of migrate; longest call {max(calls):.2f} s; answers {dict(load.journal.codes)}"
        )
        accepted = load.journal.accepted()
        assert load.journal.unanswered == []
        assert len(set(accepted.values())) == len(accepted)
        assert movements(url) - earlier == len(accepted)
        run(ROOT, environment, "verify_ledger", "--org", str(ORG))
        assert max(calls) < LONGEST_CALL_SECONDS
