"""Two workers, one of which is killed in the middle of a task: the other one goes on, and nothing is doubled."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from tests.postgresql import private_postgresql
from tests.serving import ROOT, with_demo_ledger

GOES_ON_WITHIN = 60  # seconds, as docs/worker.md says
START_BULK_RUN = """
import django; django.setup()
from django.contrib.auth.models import User
from loyalty.models import Org, Redemption
from reversals.manual.bulk import runs
from reversals.operations.worker import bulk
User.objects.create_superuser("root", password="a long password")
redemptions = list(Redemption.objects.order_by("id")[:200])
run = runs.start_from_redemptions(
    org=Org.objects.get(), key="page", redemptions=redemptions, reason="GOODS_RETURNED: shop closed", made_by="root"
)
while runs.totals_of(run).unchecked:
    runs.check_some(run, made_by="root")
runs.confirm(run, made_by="root")
bulk.start(run, made_by="root")
"""
VERIFY = """
import django; django.setup()
from reversals.operations.worker import tasks
tasks.request_check()
"""
HOLDER = (
    "SELECT process.host FROM django_tasks_database_dbtaskresult task JOIN reversals_workerprocess process"
    " ON CAST(task.worker_ids AS text) LIKE '%%' || process.id || '%%'"
    " WHERE task.status = 'RUNNING' AND task.task_path LIKE '%%' || {} || ''"
)


class Installation:
    """A database with the demo ledger, and workers on it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.environment = with_demo_ledger(url) | {"DJANGO_SETTINGS_MODULE": "config.settings"}
        self.environment["LEDGER_ANCHOR"] = str(folder / "anchor")

    def run(self, *words: str) -> None:
        subprocess.run([sys.executable, *words], cwd=ROOT, env=self.environment, check=True, capture_output=True)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=10)) as session:
                return session.execute(sql.replace("%%", "%")).fetchall()
        with psycopg.connect(self.url) as session:
            return session.execute(sql, []).fetchall()

    def count(self, sql: str) -> int:
        return int(self.rows(sql)[0][0])

    @contextmanager
    def worker(self) -> Iterator["subprocess.Popen[bytes]"]:
        worker = subprocess.Popen(
            [sys.executable, "manage.py", "work"], cwd=ROOT, env=self.environment, stderr=subprocess.DEVNULL
        )
        try:
            yield worker
        finally:
            worker.terminate()
            assert worker.wait(timeout=30) in {0, -signal.SIGKILL}

    def kill_holder_of(self, name: str) -> None:
        """Kills the worker that runs the task of this name."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            found = self.rows(HOLDER.format(f"'{name}'"))
            if found:
                os.kill(int(found[0][0].rpartition(" ")[2]), signal.SIGKILL)
                return
            time.sleep(0.01)
        pytest.fail(f"no worker began {name} within 60 s")


def wait_for(condition: Any, seconds: float) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.2)
    return time.monotonic() - began


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    if connection.vendor == "sqlite":
        yield Installation(f"sqlite:///{tmp_path / 'installation.sqlite3'}", tmp_path)
    else:
        with private_postgresql() as url:
            yield Installation(url, tmp_path)


@pytest.mark.usefixtures("on_postgresql")  # two minutes, most of them waiting; it passes on SQLite, too
def test_bulk_run_and_verification_go_on_after_their_worker_was_killed(installation: Installation) -> None:
    reversed_rows = "SELECT count(*) FROM reversals_bulkrow WHERE status = 'REVERSED'"
    checks = "SELECT count(*) FROM reversals_ledgercheck"
    with installation.worker(), installation.worker():
        wait_for(lambda: installation.count(checks) == 1, 60)  # each scheduled task has run once
        installation.run("-c", START_BULK_RUN)
        wait_for(lambda: installation.count(reversed_rows) >= 20, 60)
        installation.kill_holder_of("work_on_bulk_run")
        done = installation.count(reversed_rows)
        assert done < 200
        took = wait_for(lambda: installation.count(reversed_rows) > done + 20, GOES_ON_WITHIN + 10)
        print(f"bulk run: {done} of 200 rows when the worker was killed; went on after {took:.0f} s")
        with installation.worker():
            wait_for(lambda: installation.count(reversed_rows) == 200, 120)
            installation.run("-c", VERIFY)
            installation.kill_holder_of("verify_ledger")
            took = wait_for(lambda: installation.count(checks) == 2, GOES_ON_WITHIN + 20)
            print(f"verification: recorded {took:.0f} s after its worker was killed")
    assert installation.count("SELECT count(*) FROM reversals_reversal") == 200
    assert installation.count("SELECT count(DISTINCT redemption_id) FROM reversals_reversal") == 200
    assert installation.count(checks) == 2
    assert installation.count("SELECT count(*) FROM reversals_ledgercheck WHERE broken_count > 0") == 0
    assert installation.count("SELECT count(*) FROM reversals_workerprocess") <= 2  # the killed ones
    installation.run("manage.py", "verify_ledger")
