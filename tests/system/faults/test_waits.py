"""Each call is answered within 5 s while its database does not answer, and finds the next primary."""

import copy
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.postgresql import Replica
from tests.system.faults.conftest import ANSWERED_WITHIN_SECONDS, Stage, make_stage
from tests.system.faults.machines import Database, Server, Wire, silent_address, wait_until

Serve = Callable[..., Server]


@pytest.fixture
def standby(stage: Stage) -> Iterator[Replica]:
    standby = Replica(stage.url)
    yield standby
    standby.remove()


def url_of(*ports: int) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgres://postgres:@{hosts}/postgres?target_session_attrs=read-write"


def configure(database: Database, **settings: str) -> None:
    with database.connected() as connection:
        connection.execute("SET synchronous_commit = local; SET default_transaction_read_only = off")
        for name, value in settings.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        connection.execute("SELECT pg_reload_conf()")


def test_calls_are_896_while_the_synchronous_standby_is_away_and_none_is_lost(
    stage: Stage, serve: Serve, standby: Replica
) -> None:
    database = stage.database
    assert database is not None
    server = serve(stage)
    configure(database, synchronous_standby_names="walreceiver")
    try:
        with stage.under_load("synchronous standby stopped", server, seen="409 896") as fault:
            standby.stop()
            fault.injected += 1
            time.sleep(12)
            standby.start()
    finally:
        configure(database, synchronous_standby_names="")
    assert fault.slowest_seconds < ANSWERED_WITHIN_SECONDS


def test_calls_to_a_frozen_primary_are_898_and_none_is_lost(stage: Stage, serve: Serve) -> None:
    assert stage.database is not None
    server = serve(stage)
    with stage.under_load("SIGSTOP of the database", server, seen="503 898") as fault:
        postmaster = psutil.Process(stage.database.process_id)
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        fault.injected += 1
        time.sleep(12)
        for process in processes:
            process.send_signal(signal.SIGCONT)
    assert fault.slowest_seconds < ANSWERED_WITHIN_SECONDS


def test_unreachable_first_host_costs_time_once(stage: Stage, serve: Serve) -> None:
    assert stage.database is not None
    with silent_address() as silent:
        wire = Wire(stage.database.socket)
        server = serve(stage, environment={"DATABASE_URL": url_of(silent, wire.port)})
        with stage.under_load("first host unreachable", server) as fault:
            for _ in range(5):
                fault.injected += stage.database.terminate_backends()
                time.sleep(0.5)
        server.stop()
        wire.close()
    assert fault.slowest_seconds < 2


def test_calls_find_the_new_primary_if_the_former_one_becomes_read_only(
    once: None, serve: Serve, tmp_path: Path
) -> None:
    database = Database()
    former = make_stage(database.url, database, tmp_path)
    standby = Replica(former.url)
    wires = [Wire(database.socket), Wire(f"{standby.host}/.s.PGSQL.5432")]
    promoted = copy.copy(database)
    promoted.url = standby.url_of(database.url)
    stage = Stage(promoted.url, promoted, former.redemptions)
    server = serve(stage, environment={"DATABASE_URL": url_of(*(wire.port for wire in wires))})
    with stage.under_load("promotion while the former primary is read-only", server, seen="503 898") as fault:
        configure(database, default_transaction_read_only="on")
        [(end,)] = database.rows("SELECT pg_current_wal_lsn()::text")
        wait_until(lambda: promoted.rows("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", end) == [(True,)])
        standby.promote()
        fault.injected += 1
    assert fault.slowest_seconds < ANSWERED_WITHIN_SECONDS
    server.stop()
    for wire in wires:
        wire.close()
    standby.remove()
    database.remove()
