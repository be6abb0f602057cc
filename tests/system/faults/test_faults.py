"""Whatever breaks, each key is answered, accepted movements are stored once, and no answer is a 500."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.serving import manage
from tests.system.faults.conftest import Stage, make_stage
from tests.system.faults.machines import Database, Server, Wire, read_only, small_disk, wait_until

Serve = Callable[..., Server]


@pytest.fixture
def wire(stage: Stage) -> Iterator[Wire]:
    assert stage.database is not None
    wire = Wire(stage.database.socket)
    yield wire
    wire.close()


def test_no_call_is_lost_if_a_worker_is_killed(stage: Stage, serve: Serve) -> None:
    server = serve(stage)
    with stage.under_load("kill -9 of a worker", server) as fault:
        server.workers[0].kill()
        fault.injected += 1
        wait_until(lambda: len(server.workers) == 2)


@pytest.mark.parametrize(("cut", "seen"), [("before", "503 886"), ("after", "")])
def test_no_call_is_lost_or_doubled_if_the_connection_is_cut_at_commit(
    stage: Stage, serve: Serve, wire: Wire, cut: str, seen: str
) -> None:
    through_wire = {"DATABASE_URL": f"postgres://postgres:@127.0.0.1:{wire.port}/postgres"}
    server = serve(stage, environment=through_wire)
    with stage.under_load(f"cut {cut} the COMMIT", server, seen=seen) as fault:
        wire.cut = cut
        wait_until(lambda: wire.cuts >= 20)
        wire.cut = ""
        fault.injected = wire.cuts


def test_no_call_is_lost_if_database_sessions_are_terminated(stage: Stage, serve: Serve) -> None:
    server = serve(stage)
    with stage.under_load("backends terminated", server, seen="503 886") as fault:
        for _ in range(10):
            fault.injected += stage.database.terminate_backends()
            time.sleep(0.2)


@pytest.mark.deep
def test_no_call_is_lost_if_server_and_workers_are_killed(stage: Stage, serve: Serve) -> None:
    server = serve(stage)
    with stage.under_load("kill -9 of the master", server, seen="no answer") as fault:
        server.kill()
        fault.injected += 1
        server.start()


@pytest.mark.deep
def test_no_call_is_lost_if_only_the_master_is_killed(stage: Stage, serve: Serve) -> None:
    server = serve(stage)
    with stage.under_load("kill -9 of the master, its workers left", server, seen="no answer") as fault:
        remaining = server.workers
        server.process.kill()
        server.process.wait(10)
        fault.injected += 1
        for worker in remaining:  # as a supervisor ends the remaining processes of a unit
            with suppress(Exception):
                worker.kill()
        server.start()


@pytest.mark.deep
def test_no_call_is_lost_if_the_database_crashes(stage: Stage, serve: Serve) -> None:
    server = serve(stage)
    with stage.under_load("pg_ctl stop -m immediate", server, seen="503 898") as fault:
        for _ in range(2):
            stage.database.crash()
            fault.injected += 1
            time.sleep(2)


@pytest.mark.deep
def test_suspended_worker_that_resumes_after_retries_doubles_no_call(stage: Stage, serve: Serve) -> None:
    server = serve(stage)
    with stage.under_load("SIGSTOP of a worker", server, seen="no answer") as fault:
        worker = server.workers[0]
        worker.send_signal(signal.SIGSTOP)
        fault.injected += 1
        time.sleep(18)  # longer than clients wait: it resumes with requests that another worker has answered
        worker.send_signal(signal.SIGCONT)


@pytest.mark.deep
def test_calls_to_a_read_only_database_are_898_and_none_is_lost(stage: Stage, serve: Serve) -> None:
    server = serve(stage)
    with stage.under_load("read-only database", server, seen="503 898") as fault:
        _set(stage, "default_transaction_read_only", "on")
        time.sleep(4)
        assert not server.is_ready()
        fault.injected += 1
        _set(stage, "default_transaction_read_only", "off")


@pytest.mark.deep
def test_calls_without_a_free_connection_are_898_and_none_is_lost(stage: Stage, serve: Serve) -> None:
    server = serve(stage)
    with stage.under_load("connections exhausted", server, seen="503 898") as fault:
        taken = []
        with suppress(psycopg.OperationalError):
            while True:
                taken.append(stage.database.connected())
        for pid in _sessions_of_server(stage, taken):
            taken[0].execute("SELECT pg_terminate_backend(%s)", [pid])
            with suppress(psycopg.OperationalError):
                taken.append(stage.database.connected())
                fault.injected += 1
        time.sleep(4)
        for each in taken:
            each.close()


@pytest.mark.deep
def test_calls_for_rows_locked_for_30_seconds_are_896_and_none_is_lost(stage: Stage, serve: Serve) -> None:
    server = serve(stage)
    with (
        stage.under_load("row locked for 30 s", server, seen="503 896") as fault,
        psycopg.connect(stage.url) as session,
    ):
        locked = session.execute("SELECT id FROM loyalty_customer WHERE public_id < 4 FOR UPDATE").fetchall()
        fault.injected = len(locked)
        time.sleep(30)


@pytest.mark.deep
def test_no_call_is_lost_if_two_servers_restart_one_after_the_other(stage: Stage, serve: Serve) -> None:
    servers = [serve(stage), serve(stage)]
    with stage.under_load("rolling restart", *servers, seen="no answer") as fault:
        for server in servers:
            server.stop()
            fault.injected += 1
            server.start()


@pytest.mark.deep
def test_no_call_is_lost_during_a_migration_under_load(stage: Stage, serve: Serve) -> None:
    server = serve(stage)
    with stage.under_load("migration", server) as fault:
        for sql in (
            "ALTER TABLE reversals_attempt ADD COLUMN tried text",
            "CREATE INDEX CONCURRENTLY tried ON reversals_attempt (tried)",
            "ALTER TABLE reversals_attempt DROP COLUMN tried",
        ):
            with stage.database.connected() as migration:
                migration.execute(sql)
            fault.injected += 1
            time.sleep(1)
        manage(stage.environment, ("migrate", "-v0"))


@pytest.mark.deep
def test_no_call_is_doubled_if_the_clock_of_one_server_is_three_days_off(
    stage: Stage, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import time, time_machine\ntime_machine.travel(time.time() + 3 * 86400, tick=True).start()\n"
    )
    servers = [serve(stage), serve(stage, environment={"PYTHONPATH": str(tmp_path)})]
    with stage.under_load("clocks 3 days apart", *servers) as fault:
        wait_until(lambda: _attempts_of_tomorrow(stage) > 20)
        fault.injected = _attempts_of_tomorrow(stage)


@pytest.mark.deep
def test_calls_on_a_full_disk_are_886_and_none_is_lost(once: None, serve: Serve, tmp_path: Path) -> None:
    try:
        with small_disk(400) as disk:
            database = Database(disk)
            stage = make_stage(database.url, database, tmp_path)
            server = serve(stage)
            with stage.under_load("disk full", server, seen="503 886") as fault:
                ballast = disk / "ballast"
                subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=64k"], capture_output=True, check=False)
                wait_until(lambda: not _can_write(database))
                fault.injected += 1
                time.sleep(4)
                ballast.unlink()
                if not _answers(database):  # it may have shut down because the disk was full
                    database.crash()
            server.stop()
            database.remove()
    except OSError as error:
        pytest.skip(str(error))


@pytest.mark.deep
def test_calls_are_answered_while_a_hundred_clients_never_finish_their_headers(stage: Stage, serve: Serve) -> None:
    import socket

    server = serve(stage)
    with stage.under_load("100 sockets with half a header", server) as fault:
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        for each in slow:
            each.sendall(b"POST /v2/points/reverse HTTP/1.1\r\nHost: localhost\r\nContent-")
            fault.injected += 1
        time.sleep(3)
        for each in slow:
            each.close()


@pytest.mark.deep
def test_no_call_is_lost_if_a_worker_on_sqlite_is_killed(sqlite_stage: Stage, serve: Serve) -> None:
    server = serve(sqlite_stage)
    with sqlite_stage.under_load("kill -9 of a worker", server, seen="no answer") as fault:
        for _ in range(3):
            server.workers[0].kill()
            fault.injected += 1
            wait_until(lambda: len(server.workers) == 2)


@pytest.mark.deep
def test_calls_to_a_read_only_sqlite_file_are_898_and_none_is_lost(sqlite_stage: Stage, serve: Serve) -> None:
    server = serve(sqlite_stage)
    with (
        sqlite_stage.under_load("read-only file", server, seen="503 898") as fault,
        read_only(Path(sqlite_stage.url.removeprefix("sqlite:///"))),
    ):
        wait_until(lambda: not server.is_ready())
        fault.injected += 1
        time.sleep(4)


@pytest.mark.deep
def test_calls_on_a_full_disk_of_sqlite_are_886_and_none_is_lost(once: None, serve: Serve, tmp_path: Path) -> None:
    try:
        with small_disk(40) as disk:
            stage = make_stage(f"sqlite:///{disk / 'faults.sqlite3'}", None, tmp_path)
            server = serve(stage)
            with stage.under_load("disk full", server, seen="503 886") as fault:
                ballast = disk / "ballast"
                subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=4k"], capture_output=True, check=False)
                wait_until(lambda: shutil.disk_usage(disk).free == 0)
                fault.injected += 1
                time.sleep(4)
                ballast.unlink()
            server.stop()
    except OSError as error:
        pytest.skip(str(error))


def _set(stage: Stage, name: str, value: str) -> None:
    with stage.database.connected() as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER SYSTEM SET {name} = {value}")
        connection.execute("SELECT pg_reload_conf()")


def _sessions_of_server(stage: Stage, own: list[psycopg.Connection]) -> list[int]:
    mine = [each.info.backend_pid for each in own]
    sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND NOT pid = ANY(%s)"
    return [pid for (pid,) in own[0].execute(sql, [mine]).fetchall()]


def _attempts_of_tomorrow(stage: Stage) -> int:
    ahead = "SELECT count(*) FROM reversals_attempt WHERE created_at > now() + interval '1 day'"
    [(count,)] = stage.database.rows(ahead)
    return int(count)


def _can_write(database: Database) -> bool:
    with suppress(psycopg.Error):
        database.rows("CREATE TABLE ballast AS SELECT repeat('x', 9000) FROM generate_series(1, 500); SELECT 1")
        return True
    return False


def _answers(database: Database) -> bool:
    with suppress(psycopg.Error):
        return bool(database.rows("SELECT 1"))
    return False
