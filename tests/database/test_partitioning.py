"""Tests `deploy/partition_attempts.sql`: partitioned attempts give the same results, and keys stay unique."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from tests.postgresql import private_postgresql, run_script
from tests.serving import ROOT, with_demo_ledger
from tests.templates import create_migrated_postgresql

SCRIPT = ROOT / "deploy" / "partition_attempts.sql"
# The tests of code that reads or writes attempts: keys, refusals, races for a key, outages, lists, purge, seals.
FILES = (
    "movements/test_idempotency.py",
    "movements/test_engine.py",
    "api/test_endpoint.py",
    "movements/test_races.py",
    "movements/test_outages.py",
    "backoffice/test_inspect.py",
    "movements/test_hot_path.py",
)


@pytest.fixture(scope="module")
def opened() -> Iterator[psycopg.Connection]:
    """Creates a database, partitioned with attempts of this month and of two earlier months in it."""
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL only; the run on PostgreSQL has it")
    url = create_migrated_postgresql(os.environ["DATABASE_URL"], "partitioned")
    with_demo_ledger(url)
    with psycopg.connect(url, autocommit=True) as opened:
        opened.execute(INSERT, {"key": "", "holds": False, "at": "2025-02-03T00:00:00Z"})
        opened.execute(INSERT, {"key": "key-1", "holds": True, "at": "2025-03-31T23:59:59Z"})
        opened.execute(INSERT, {"key": "", "holds": False, "at": "now"})
        run_script(url, SCRIPT)
        yield opened


INSERT = """
INSERT INTO reversals_attempt (id, org_id, created_at, operation, is_dry_run, request_id, channel, made_by, reason,
    redemption_id_asked, external_reference_asked, identifier_type, identifier_masked, idempotency_key, holds_key,
    fingerprint, rule, refusal_reason, reply)
SELECT count(*) + 1, 100737, %(at)s, 'REVERSE', false, '', 'API', 'till.1', '', '', '', '', '', %(key)s, %(holds)s,
    '', '', '', '' FROM reversals_attempt ON CONFLICT DO NOTHING
"""


def places(opened: psycopg.Connection) -> list[str]:
    """Returns the partition of each attempt, in order of id."""
    rows = opened.execute("SELECT tableoid::regclass::text FROM reversals_attempt ORDER BY id").fetchall()
    return [name for (name,) in rows]


def test_attempts_are_partitioned_by_month_or_by_key(opened: psycopg.Connection) -> None:
    [(month,)] = opened.execute("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')").fetchall()
    first, second, third = places(opened)[:3]
    assert (first, third) == ("reversals_attempt_2025_02", f"reversals_attempt_{month}")
    assert second.startswith("reversals_attempt_keys_")


def test_key_is_unique_across_months(opened: psycopg.Connection) -> None:
    assert opened.execute(INSERT, {"key": "key-1", "holds": True, "at": "now"}).rowcount == 0
    assert opened.execute(INSERT, {"key": "key-2", "holds": True, "at": "now"}).rowcount == 1


def test_attempt_in_a_month_without_a_partition_goes_to_the_rest(opened: psycopg.Connection) -> None:
    opened.execute(INSERT, {"key": "", "holds": False, "at": "2031-01-01T00:00:00Z"})
    assert places(opened)[-1] == "reversals_attempt_rest"


def test_creating_months_twice_creates_them_once(opened: psycopg.Connection) -> None:
    for _ in range(2):
        opened.execute("SELECT make_months_of_attempts('2030-11-05', '2030-12-05')")
    opened.execute(INSERT, {"key": "", "holds": False, "at": "2030-12-31T23:59:59Z"})
    assert places(opened)[-1] == "reversals_attempt_2030_12"


def test_query_of_some_days_in_a_month_scans_one_partition(opened: psycopg.Connection) -> None:
    plan = opened.execute(
        "EXPLAIN SELECT id FROM reversals_attempt WHERE org_id = 100737 AND NOT holds_key"
        " AND created_at >= '2025-02-01Z' AND created_at < '2025-02-20Z' ORDER BY created_at"
    ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "reversals_attempt_2025_02" in text
    assert "2025_03" not in text
    assert "keys" not in text


@pytest.mark.deep
def test_attempt_tests_pass_on_a_partitioned_table(on_postgresql: None) -> None:
    """Runs the test files about attempts on a test database that is partitioned first."""
    words = [sys.executable, "-m", "pytest", "-q", "-m", "not deep", *(str(Path("tests") / name) for name in FILES)]
    with private_postgresql() as url:
        environment: dict[str, Any] = os.environ | {"DATABASE_URL": url, "TEST_DATABASE_SCRIPT": str(SCRIPT)}
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
