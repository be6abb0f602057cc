"""Pages are read from a real streaming replica, and are never stale if it is behind, stopped or not a replica."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.conf import settings as project
from django.db import connection, connections
from django.test import Client
from django.urls import reverse

from config import replica
from loyalty.models import Redemption
from reversals.operations.doctor import copies
from reversals.operations.doctor.findings import Status
from tests.builders import World, make_world, redeemed, staff_of
from tests.postgresql import Replica
from tests.system.faults.machines import wait_until

pytestmark = pytest.mark.usefixtures("committed", "on_postgresql")


@pytest.fixture(scope="module")
def server(django_db_setup: None, django_db_blocker: Any) -> Iterator[Replica]:
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL; the run on PostgreSQL includes this test")
    server = Replica(os.environ["DATABASE_URL"])
    yield server
    server.remove()


@pytest.fixture
def running(server: Replica, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """Configures the replica as settings.py does; yields a connection to the replica."""
    monkeypatch.setattr(replica, "_silent_until", 0.0)
    monkeypatch.setattr(replica, "WAITS_SECONDS", 5)  # a busy machine is slow to replay
    connections.settings["replica"] = connection.settings_dict | {"HOST": str(server.host)}
    before = settings.MIDDLEWARE.index("django.contrib.sessions.middleware.SessionMiddleware")
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE[:before],
        "config.replica.ReplicaMiddleware",
        *settings.MIDDLEWARE[before:],
    ]
    settings.DATABASE_ROUTERS = ["config.replica.ReplicaRouter"]
    name = connection.settings_dict["NAME"]
    with psycopg.connect(host=str(server.host), user="postgres", dbname=name, autocommit=True) as opened:
        yield opened
    connections["replica"].close()
    del connections["replica"]
    del connections.settings["replica"]


def page_of(client: Client, redemption: Redemption) -> str:
    response = client.get(reverse("admin:loyalty_redemption_change", args=[redemption.id]))
    assert response.status_code == 200
    return response.content.decode()


def last_statement_on_replica(opened: psycopg.Connection) -> str:
    """The last statement of the application's session on the replica."""
    [(query,)] = opened.execute(
        "SELECT query FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    ).fetchall()
    return str(query)


def create_world() -> tuple[World, Client, Redemption]:
    world = make_world()
    return world, staff_of(world, "Auditor", username=f"meera.{world.org.id}"), redeemed(world, 10)


def test_a_page_is_read_from_the_replica(running: psycopg.Connection) -> None:
    _, client, redemption = create_world()
    assert redemption.public_id in page_of(client, redemption)
    assert "loyalty_" in last_statement_on_replica(running) or "reversals_" in last_statement_on_replica(running)


def test_page_shows_latest_change_although_replica_is_behind(
    running: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, client, redemption = create_world()
    page_of(client, redemption)
    running.execute("SELECT pg_wal_replay_pause()")
    try:
        monkeypatch.setattr(replica, "WAITS_SECONDS", 0.01)
        reversal_id = world.reverse(redemption, 2).json()["reversalId"]
        assert not replica.has_caught_up()
        assert reversal_id in page_of(client, redemption)
    finally:
        running.execute("SELECT pg_wal_replay_resume()")


def test_page_read_from_replica_shows_latest_change(running: psycopg.Connection) -> None:
    world, client, redemption = create_world()
    for number in range(10):
        reversal_id = world.reverse(redemption, 1, key=f"key-{number}").json()["reversalId"]
        assert reversal_id in page_of(client, redemption)
        assert "pg_last_wal_replay_lsn" not in last_statement_on_replica(running)


def test_page_that_writes_uses_the_primary_and_reads_there_afterwards(running: psycopg.Connection) -> None:
    world, client, _ = create_world()
    assert client.get("/admin/").status_code == 200  # stores the totals of past days
    assert client.get("/admin/").status_code == 200
    token = replica._reads_replica.set(True)
    try:
        row = Redemption.objects.filter(org=world.org).first()
        assert row is not None
        assert row._state.db == "replica"
        row.save()
        assert Redemption.objects.get(id=row.id)._state.db == "default"
    finally:
        replica._reads_replica.reset(token)


def test_api_call_does_not_use_the_replica(running: psycopg.Connection) -> None:
    world, _, redemption = create_world()
    connections["replica"].close()
    assert world.reverse(redemption, 2).status_code == 200
    assert world.read(f"/v2/points/redemptions/{redemption.public_id}").status_code == 200
    assert connections["replica"].connection is None


def test_doctor_warns_of_a_standby_that_is_behind(running: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    [healthy] = copies.replication()
    assert (healthy.status, healthy.found) == (Status.OK, "1 standby connected, at most 0 s behind")
    monkeypatch.setattr(copies, "LAG_SECONDS", 0.2)
    running.execute("SELECT pg_wal_replay_pause()")
    try:
        make_world()
        wait_until(lambda: [each.status for each in copies.replication()] == [Status.WARNING])
    finally:
        running.execute("SELECT pg_wal_replay_resume()")


def test_pages_come_from_primary_while_replica_is_stopped(
    server: Replica, running: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    _, client, redemption = create_world()
    page_of(client, redemption)
    server.stop()
    try:
        for _ in range(3):
            assert redemption.public_id in page_of(client, redemption)
        assert caplog.text.count("pages are read from the primary") == 1
    finally:
        server.start()


def test_primary_configured_as_replica_is_not_used(
    running: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "REPLICA", "default")
    monkeypatch.setattr(replica, "WAITS_SECONDS", 0)
    assert not replica.has_caught_up()


@pytest.mark.parametrize(
    ("replica_url", "expected"),
    [
        ("postgres://loyalty:x@replica:5432/loyalty", "['default', 'replica'] ['config.replica.ReplicaRouter'] True"),
        ("", "['default'] [] False"),
        (
            "sqlite:///var/replica.sqlite3",
            "DATABASE_REPLICA_URL is set, so it and DATABASE_URL must both be PostgreSQL",
        ),
    ],
)
def test_replica_url_enables_replica_or_is_refused_with_reason(replica_url: str, expected: str) -> None:
    program = (
        "from django.conf import settings as s;"
        "print([*s.DATABASES], s.DATABASE_ROUTERS, 'config.replica.ReplicaMiddleware' in s.MIDDLEWARE)"
    )
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--verbosity", "0", "-c", program],
        cwd=project.BASE_DIR,
        env=os.environ | {"DATABASE_REPLICA_URL": replica_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in done.stdout + done.stderr
