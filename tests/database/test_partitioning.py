"""Attempts in partitions, as `deploy/partition_attempts.sql` spreads them: the same answers, each key once."""

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

SCRIPT = ROOT / "deploy" / "partition_attempts.sql"
# What reads or writes attempts: keys, refusals, races for a key, outages, lists, purge, seals.
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
def url() -> Iterator[str]:
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL only; the run on PostgreSQL has it")
    with private_postgresql() as url:
        yield url


@pytest.fixture(scope="module")
def opened(url: str) -> Iterator[psycopg.Connection]:
    """A database that was partitioned with attempts in it, of this month and of two that are long past."""
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
    """The partition of each attempt, in the order of their ids."""
    rows = opened.execute("SELECT tableoid::regclass::text FROM reversals_attempt ORDER BY id").fetchall()
    return [name for (name,) in rows]


def test_each_attempt_went_to_its_month_or_to_the_keys(opened: psycopg.Connection) -> None:
    [(month,)] = opened.execute("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')").fetchall()
    first, second, third = places(opened)[:3]
    assert (first, third) == ("reversals_attempt_2025_02", f"reversals_attempt_{month}")
    assert second.startswith("reversals_attempt_keys_")


def test_a_key_is_held_once_whatever_the_months(opened: psycopg.Connection) -> None:
    assert opened.execute(INSERT, {"key": "key-1", "holds": True, "at": "now"}).rowcount == 0
    assert opened.execute(INSERT, {"key": "key-2", "holds": True, "at": "now"}).rowcount == 1


def test_a_month_that_nobody_made_has_room(opened: psycopg.Connection) -> None:
    opened.execute(INSERT, {"key": "", "holds": False, "at": "2031-01-01T00:00:00Z"})
    assert places(opened)[-1] == "reversals_attempt_rest"


def test_months_are_made_once(opened: psycopg.Connection) -> None:
    for _ in range(2):
        opened.execute("SELECT make_months_of_attempts('2030-11-05', '2030-12-05')")
    opened.execute(INSERT, {"key": "", "holds": False, "at": "2030-12-31T23:59:59Z"})
    assert places(opened)[-1] == "reversals_attempt_2030_12"


def test_a_list_of_some_days_reads_one_month(opened: psycopg.Connection) -> None:
    plan = opened.execute(
        "EXPLAIN SELECT id FROM reversals_attempt WHERE org_id = 100737 AND NOT holds_key"
        " AND created_at >= '2025-02-01Z' AND created_at < '2025-02-20Z' ORDER BY created_at"
    ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "reversals_attempt_2025_02" in text
    assert "2025_03" not in text
    assert "keys" not in text


@pytest.mark.deep
def test_the_project_does_not_notice(url: str) -> None:
    """The test files that have to do with attempts, on a test database that is partitioned before they begin."""
    words = [sys.executable, "-m", "pytest", "-q", "-m", "not deep", *(str(Path("tests") / name) for name in FILES)]
    environment: dict[str, Any] = os.environ | {"DATABASE_URL": url, "TEST_DATABASE_SCRIPT": str(SCRIPT)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
