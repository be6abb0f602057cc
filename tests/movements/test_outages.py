"""Tests database failures, real ones where possible: no HTTP 500, no double reversal, and the key stays free."""

import io
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import InternalError, OperationalError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpResponse

from loyalty.models import Customer, Redemption
from reversals.assurance.verification import broken_laws
from reversals.models import LedgerCheck, Reversal
from tests.builders import World, make_world, redeemed, staff_of
from tests.movements.test_races import at_once

pytestmark = pytest.mark.usefixtures("committed")


def outcome(response: HttpResponse) -> tuple[int, int]:
    return response.status_code, response.json()["errors"][0]["code"]


def reversals(world: World) -> int:
    return Reversal.objects.filter(org=world.org).count()


def test_unreachable_database_is_898(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    redemption = redeemed(world)
    connection.close()
    with monkeypatch.context() as away:
        if connection.vendor == "postgresql":
            away.setitem(connection.settings_dict, "HOST", "127.0.0.1")
            away.setitem(connection.settings_dict, "PORT", "1")
        else:
            away.setitem(connection.settings_dict, "NAME", "/nowhere/test.sqlite3")
        response = world.reverse(redemption, 2, key="key-1")
        connection.close()
    assert outcome(response) == (503, 898)
    assert response["Retry-After"] == "30"
    assert world.reverse(redemption, 2, key="key-1").status_code == 200


@contextmanager
def read_only_database() -> Iterator[None]:
    """Makes the database read-only for the block, on PostgreSQL for every new session."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = ON")
        yield
        connection.close()
        return
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    connection.close()
    with psycopg.connect(**_parameters(), autocommit=True) as other:
        other.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        try:
            yield
        finally:
            other.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    connection.close()


def test_session_of_a_former_primary_is_given_up(on_postgresql: None) -> None:
    world = make_world()
    redemption = redeemed(world)
    answers = []
    for number in range(2):
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = on")
        former = connection.connection
        answers.append(world.reverse(redemption, 1, key=f"key-{number}"))
        assert former.closed
        assert world.reverse(redemption, 1, key=f"key-{number}").status_code == 200
    # The first write of the first call is the last use of its secret, for which no call fails.
    assert answers[0].status_code == 200
    assert outcome(answers[1]) == (503, 898)


def test_read_only_database_is_898_and_the_key_stays_free() -> None:
    world = make_world()
    redemption = redeemed(world)
    with read_only_database():
        response = world.reverse(redemption, 2, key="key-1")
        malformed = world.reverse(redemption, 0, key="key-1")
    assert outcome(response) == (503, 898)
    assert outcome(malformed) == (400, 887)
    assert world.reverse(redemption, 2, key="key-1").status_code == 200
    assert reversals(world) == 1


@pytest.mark.parametrize("key", [None, "key-1"])
def test_database_restart_between_requests_causes_no_error(on_postgresql: None, key: str) -> None:
    world = make_world()
    redemption = redeemed(world)
    assert world.reverse(redemption, 1).status_code == 200
    with psycopg.connect(**_parameters(), autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database()"
        )
    assert world.reverse(redemption, 2, key=key).status_code == 200


def _parameters() -> dict[str, Any]:
    database = connection.settings_dict
    names = {"dbname": "NAME", "user": "USER", "host": "HOST", "port": "PORT"}
    given = {name: database[setting] for name, setting in names.items() if database[setting]}
    return {"host": database["OPTIONS"].get("host")} | given


def test_connection_lost_during_reversal_is_886_and_the_key_stays_free(
    on_postgresql: None, not_on_cluster: None
) -> None:
    """In a cluster the session that waits for the lock is on another node, where the test does not look."""
    world = make_world()
    redemption = redeemed(world)
    answers: list[HttpResponse] = []

    def ask() -> None:
        answers.append(world.reverse(redemption, 2, key="key-1"))
        connections.close_all()

    asking = threading.Thread(target=ask)
    with transaction.atomic(), psycopg.connect(**_parameters(), autocommit=True) as other:
        Customer.objects.select_for_update().get(org=world.org, id=world.asha.id)
        asking.start()
        _terminate_waiting_connection(other)
        asking.join(timeout=10)
    assert outcome(answers[0]) == (503, 886)
    assert answers[0]["Retry-After"] == "5"
    assert world.reverse(redemption, 2, key="key-1").status_code == 200
    assert reversals(world) == 1


def _terminate_waiting_connection(other: "psycopg.Connection[Any]") -> None:
    for _ in range(100):
        waiting = other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        if waiting.fetchall():
            return
        time.sleep(0.01)
    raise AssertionError("no connection waited for the lock")


def lose_the_answer_to_commit(
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[BaseDatabaseWrapper], None],
    cause: Exception | None = None,
) -> None:
    """Makes the next COMMIT fail for the client, after `before` has ended the transaction on the server."""
    wrapper_class = type(connections["default"])
    commit = wrapper_class._commit
    lost: list[bool] = []

    def lose_once(wrapper: BaseDatabaseWrapper) -> None:
        if lost:
            commit(wrapper)
            return
        lost.append(True)
        before(wrapper)
        raise OperationalError("the connection was lost") from cause

    monkeypatch.setattr(wrapper_class, "_commit", lose_once)


class SlowWrites:
    """Waits before the statement that writes a reversal, for longer than the session may rest in a transaction."""

    def __call__(self, execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if "reversals_reversal" in sql and "INSERT" in sql:
            time.sleep(0.3)
        return execute(sql, *arguments)


@pytest.mark.parametrize("timeout", ["idle_in_transaction_session_timeout", "transaction_timeout"])
def test_transaction_that_the_database_ended_for_its_age_is_886_and_the_key_stays_free(
    on_postgresql: None, timeout: str
) -> None:
    world = make_world()
    redemption = redeemed(world)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_settings WHERE name = %s", [timeout])
        if not cursor.fetchone()[0]:
            pytest.skip("this version of PostgreSQL has no such timeout")
        cursor.execute(f"SET {timeout} = 100")
    with connection.execute_wrapper(SlowWrites()):
        response = world.reverse(redemption, 2, key="key-1")
    connection.close()
    assert outcome(response) == (503, 886)
    assert world.reverse(redemption, 2, key="key-1").status_code == 200
    assert reversals(world) == 1


def test_back_office_page_reports_a_transaction_that_the_database_ended_as_an_outage(on_postgresql: None) -> None:
    world = make_world()
    staff = staff_of(world, "Support", username=f"support.{world.org.id}")

    def end(execute: Any, sql: str, *more: Any) -> Any:
        if "loyalty_redemption" in sql:
            raise InternalError("idle") from psycopg.errors.IdleInTransactionSessionTimeout("idle")
        return execute(sql, *more)

    with connection.execute_wrapper(end):
        response = staff.get("/admin/loyalty/redemption/")
    assert response.status_code == 503


def test_key_is_replayed_after_a_migration_added_a_column(on_postgresql: None) -> None:
    """A prepared `SELECT *` would fail on each connection until the restart."""
    world = make_world()
    redemption = redeemed(world)
    first = world.reverse(redemption, 2, key="key-1")
    for _ in range(6):
        assert world.reverse(redemption, 2, key="key-1").content == first.content
    with psycopg.connect(**_parameters(), autocommit=True) as other:
        other.execute("ALTER TABLE reversals_attempt ADD COLUMN tried text")
        try:
            assert world.reverse(redemption, 2, key="key-1").content == first.content
        finally:
            other.execute("ALTER TABLE reversals_attempt DROP COLUMN tried")


@pytest.mark.parametrize("key", [None, "key-1"])
def test_lost_answer_to_commit_is_looked_up_before_the_reply(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    world = make_world()
    redemption = redeemed(world)
    lose_the_answer_to_commit(monkeypatch, before=lambda wrapper: wrapper.connection.commit())
    response = world.reverse(redemption, 2, key=key)
    assert response.status_code == 200
    assert response.json()["reversalId"] == Reversal.objects.get(org=world.org).public_id
    if key is not None:
        assert world.reverse(redemption, 2, key=key).content == response.content


def test_failed_commit_is_886_and_the_key_stays_free(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    redemption = redeemed(world)
    world.reverse(redemption, 0)  # the org has another attempt
    lose_the_answer_to_commit(monkeypatch, before=lambda wrapper: wrapper.connection.rollback())
    response = world.reverse(redemption, 2, key="key-1")
    assert outcome(response) == (503, 886)
    assert reversals(world) == 0
    assert world.reverse(redemption, 2, key="key-1").status_code == 200


def test_failed_commit_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    redemption = redeemed(world)
    world.read("/v2/points/reversals")  # records the last use of the secret, which a cluster commits by itself
    lose_the_answer_to_commit(
        monkeypatch,
        before=lambda wrapper: wrapper.connection.rollback(),
        cause=psycopg.errors.SerializationFailure(),
    )
    response = world.reverse(redemption, 2, key="key-1")
    assert outcome(response) == (503, 896)
    assert reversals(world) == 0
    assert world.reverse(redemption, 2, key="key-1").status_code == 200


class FailingWrites:
    """Makes the first `times` statements that write a reversal fail with a database error."""

    def __init__(self, cause: Exception, times: int) -> None:
        self.cause, self.times, self.seen = cause, times, 0

    def __call__(self, execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if "reversals_reversal" not in sql or "INSERT" not in sql:
            return execute(sql, *arguments)
        self.seen += 1
        if self.seen <= self.times:
            raise OperationalError(str(self.cause)) from self.cause
        return execute(sql, *arguments)


def test_deadlock_is_retried_twice() -> None:
    world = make_world()
    redemption = redeemed(world)
    failing = FailingWrites(psycopg.errors.DeadlockDetected("deadlock detected"), times=2)
    with connection.execute_wrapper(failing):
        response = world.reverse(redemption, 2, key="key-1")
    assert response.status_code == 200
    assert reversals(world) == 1


def test_third_deadlock_is_896() -> None:
    world = make_world()
    redemption = redeemed(world)
    failing = FailingWrites(psycopg.errors.SerializationFailure("could not serialize access"), times=3)
    with connection.execute_wrapper(failing):
        response = world.reverse(redemption, 2, key="key-1")
    assert (outcome(response), response["Retry-After"], failing.seen) == ((503, 896), "1", 3)
    assert reversals(world) == 0


@pytest.mark.parametrize(
    ("cause", "answer"),
    [
        (psycopg.errors.DiskFull("no space left on device"), (503, 886)),
        (psycopg.errors.AdminShutdown("terminating connection"), (503, 886)),
        (psycopg.errors.QueryCanceled("statement timeout"), (503, 886)),
        (psycopg.errors.LockNotAvailable("lock timeout"), (409, 896)),
        (psycopg.errors.ReadOnlySqlTransaction("read-only transaction"), (503, 898)),
        (psycopg.errors.TooManyConnections("too many clients"), (503, 898)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_other_failures_are_not_retried(cause: Exception, answer: tuple[int, int]) -> None:
    world = make_world()
    redemption = redeemed(world)
    failing = FailingWrites(cause, times=1)
    with connection.execute_wrapper(failing):
        response = world.reverse(redemption, 2, key="key-1")
    assert (outcome(response), failing.seen) == (answer, 1)
    assert world.attempts()[-1].http_status == answer[0]
    assert world.reverse(redemption, 2, key="key-1").status_code == 200


def test_busy_sqlite_database_is_896(monkeypatch: pytest.MonkeyPatch, on_sqlite: None) -> None:
    world = make_world()
    redemption = redeemed(world)
    connection.close()
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.1)
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    response = world.reverse(redemption, 2, key="key-1")
    other.rollback()
    other.close()
    connection.close()
    assert outcome(response) == (503, 896)
    assert world.reverse(redemption, 2, key="key-1").status_code == 200


def test_writers_on_sqlite_wait_for_each_other(on_sqlite: None) -> None:
    world = make_world()
    redemptions = [redeemed(world, 10) for _ in range(4)]

    def reverse_ten(redemption: Redemption) -> list[int]:
        # Without a key, the transaction starts with a read.
        return [world.reverse(redemption, f"0.{number}").status_code for number in range(10, 20)]

    assert at_once([partial(reverse_ten, redemption) for redemption in redemptions]) == [[200] * 10] * 4


def test_full_disk_is_886_and_leaves_nothing_half_written(on_sqlite: None) -> None:
    world = make_world()
    redemption = redeemed(world, 10)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA max_page_count = 1")  # SQLite uses the current size as the limit instead
    accepted = 0
    while (response := world.reverse(redemption, "0.001", key=f"key-{accepted}")).status_code == 200:
        accepted += 1
    connection.close()
    assert outcome(response) == (503, 886)
    assert reversals(world) == accepted
    assert broken_laws(world.org.id) == []
    assert world.reverse(redemption, "0.001", key=f"key-{accepted}").status_code == 200


def test_read_only_ledger_is_verified_with_a_warning_that_the_check_was_not_recorded() -> None:
    world = make_world()
    redeemed(world)
    output, errors = io.StringIO(), io.StringIO()
    with read_only_database():
        call_command("verify_ledger", "--org", str(world.org.id), stdout=output, stderr=errors)
    assert output.getvalue().endswith(": all hold\n")
    assert errors.getvalue().startswith("This check could not be recorded for the back office: ")
    assert not LedgerCheck.objects.filter(org=world.org).exists()


def test_back_office_page_reports_an_unreachable_database(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    staff = staff_of(world, "Support", username=f"support.{world.org.id}")
    connection.close()
    with monkeypatch.context() as away:
        if connection.vendor == "postgresql":
            away.setitem(connection.settings_dict, "HOST", "127.0.0.1")
            away.setitem(connection.settings_dict, "PORT", "1")
        else:
            away.setitem(connection.settings_dict, "NAME", "/nowhere/test.sqlite3")
        response = staff.get("/admin/loyalty/redemption/")
        connection.close()
    assert response.status_code == 503
    assert "The database is not available" in response.content.decode()
    assert staff.get("/admin/loyalty/redemption/").status_code == 200


def test_database_restart_between_back_office_pages_causes_no_error(on_postgresql: None) -> None:
    world = make_world()
    staff = staff_of(world, "Support", username=f"support.{world.org.id}")
    with psycopg.connect(**_parameters(), autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database()"
        )
    assert staff.get("/admin/loyalty/redemption/").status_code == 200
