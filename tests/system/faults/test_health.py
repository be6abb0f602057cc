"""`/health/ready` proves a commit: it is 503 while calls could be read but not written, and ready again afterwards."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.system.faults.conftest import Stage, make_stage
from tests.system.faults.machines import Database, Server, small_disk, wait_until

Serve = Callable[..., Server]
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


def readiness(server: Server) -> str:
    """Returns `ready`, or the reason against it."""
    address = f"http://127.0.0.1:{server.port}/health/ready"
    try:
        with urllib.request.urlopen(address, timeout=4) as reply:
            return str(json.load(reply)["status"])
    except urllib.error.HTTPError as error:
        return str(json.load(error)["reason"])


def test_server_is_not_ready_while_commits_wait_for_a_lost_standby(stage: Stage, serve: Serve) -> None:
    server, database = serve(stage, workers=1), stage.database
    assert database is not None
    _require_standby(database, "lost")
    wait_until(lambda: readiness(server) == "the database did not commit within 2 s")
    with ThreadPoolExecutor(20) as many:
        started = time.monotonic()
        assert set(many.map(readiness, [server] * 100)) == {"the database did not commit within 2 s"}
        assert time.monotonic() - started < 10
    assert database.rows(WAITS) == [(1,)]
    time.sleep(10)  # the probe is given up; the next one waits in its place
    assert readiness(server) == "the database did not commit within 2 s"
    assert database.rows(WAITS)[0][0] <= 1
    _require_standby(database, "")
    wait_until(lambda: readiness(server) == "ready", seconds=10)


def _require_standby(database: Database, name: str) -> None:
    with database.connected() as connection:
        connection.execute("SET synchronous_commit = local")
        connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        connection.execute("SELECT pg_reload_conf()")


@pytest.mark.deep
def test_server_is_not_ready_while_the_disk_is_full(once: None, serve: Serve, tmp_path: Path) -> None:
    with suppress(OSError), small_disk(400) as disk:
        database = Database(disk)
        server = serve(make_stage(database.url, database, tmp_path), workers=1)
        ballast = disk / "ballast"
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=64k"], capture_output=True, check=False)
        wait_until(lambda: readiness(server) == "the database fails with 53100 (DiskFull)", seconds=10)
        ballast.unlink()
        wait_until(lambda: readiness(server) == "ready", seconds=10)
        server.stop()
        database.remove()
        return
    pytest.skip("this test mounts a small disk, which needs root")
