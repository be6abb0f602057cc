"""Requests give up a database that does not answer, at each step, and connect to the host that is known to work."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpResponse

from config import waits as limits
from loyalty.models import Redemption
from loyalty.postgresql import base
from loyalty.waits import Limit, TookTooLong, gave_up
from reversals.api.monitoring import health
from reversals.models import Reversal
from tests.builders import World, make_world, redeemed, staff_of
from tests.system.faults.machines import free_port, silent_address

Wrapper = BaseDatabaseWrapper


@pytest.fixture(autouse=True)
def _nothing_remains(on_postgresql: None, committed: None) -> Iterator[None]:
    base._failed_at.clear()
    yield
    with connection.cursor() as cursor:  # the sessions that were given up still sleep
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
            " WHERE query LIKE '%%pg_sleep%%' AND pid <> pg_backend_pid()"
        )
    gave_up.clear()
    health.forget()


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def redemption(world: World) -> Redemption:
    redemption = redeemed(world, 10)
    world.reverse(redemption, 1)  # records the last use of the secret, so that the next call does not
    return redemption


def outcome(response: HttpResponse) -> tuple[int, int]:
    return response.status_code, response.json()["errors"][0]["code"]


def sleeping_before(part: str) -> Callable[..., Any]:
    """Makes the database sleep before each statement that has the text."""

    def execute_slowly(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if part in sql:
            execute("SELECT pg_sleep(2)", None, False, context)
        return execute(sql, params, many, context)

    return execute_slowly


def test_statement_that_takes_too_long_is_given_up_with_its_connection() -> None:
    with connection.cursor() as cursor:
        session = connection.connection
        started = time.monotonic()
        with Limit(0.3), pytest.raises(OperationalError, match="did not answer in time") as raised:
            cursor.execute("SELECT pg_sleep(5)")
    assert time.monotonic() - started < 1
    assert isinstance(raised.value.__cause__, TookTooLong)
    assert session.closed
    assert gave_up.is_set()
    assert list(base._failed_at) == [session.address]
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_statements_of_a_call_share_the_limit_and_those_of_a_page_do_not() -> None:
    with connection.cursor() as cursor, Limit(0.5, for_each_wait=True):
        for _ in range(3):
            cursor.execute("SELECT pg_sleep(0.3)")
    with connection.cursor() as cursor, Limit(0.5):
        cursor.execute("SELECT pg_sleep(0.3)")
        with pytest.raises(OperationalError):
            cursor.execute("SELECT pg_sleep(0.3)")


def test_connection_that_was_given_up_is_dropped_between_requests_without_connecting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection.ensure_connection()
    connection.connection.close()
    with monkeypatch.context() as away:
        away.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        away.setitem(connection.settings_dict, "PORT", str(free_port()))
        connection.close_if_unusable_or_obsolete()
    assert connection.connection is None


def test_other_errors_and_waits_without_a_limit_are_unchanged() -> None:
    with connection.cursor() as cursor, Limit(1):
        with pytest.raises(OperationalError, match="canceling statement"):
            cursor.execute("SET statement_timeout = 50; SELECT pg_sleep(5)")
        cursor.execute("SELECT 1")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.1)")
    assert not gave_up.is_set()


def test_call_that_waits_before_commit_is_898_and_changes_nothing(
    world: World, redemption: Redemption, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SECONDS_OF_A_CALL", 0.5)
    with connection.execute_wrapper(sleeping_before("reversals_reversal")):
        response = world.reverse(redemption, 2, key="key-1")
    assert outcome(response) == (503, 898)
    monkeypatch.undo()
    assert world.reverse(redemption, 2, key="key-1").status_code == 200
    assert Reversal.objects.filter(org=world.org).count() == 2


@pytest.mark.parametrize(("key", "answer"), [("key-1", (409, 896)), (None, (503, 886))])
def test_call_that_waits_at_commit_does_not_say_that_nothing_happened(
    world: World, redemption: Redemption, monkeypatch: pytest.MonkeyPatch, key: str | None, answer: tuple[int, int]
) -> None:
    monkeypatch.setattr(limits, "SECONDS_OF_A_CALL", 0.5)
    commit = Wrapper._commit

    def commit_slowly(wrapper: Any) -> None:
        """Commits in the database, whose answer comes too late."""
        with wrapper.wrap_database_errors, wrapper.connection.cursor() as cursor:
            cursor.execute("COMMIT; SELECT pg_sleep(2)")
        commit(wrapper)

    monkeypatch.setattr(Wrapper, "_commit", commit_slowly)
    assert outcome(world.reverse(redemption, 2, key=key)) == answer
    monkeypatch.undo()
    assert Reversal.objects.filter(org=world.org).count() == 2
    if key is not None:
        assert world.reverse(redemption, 2, key=key)["Idempotent-Replayed"] == "true"


def test_lost_commit_that_cannot_be_looked_up_is_886(
    world: World, redemption: Redemption, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SECONDS_OF_A_CALL", 1)  # no time to connect again

    def lose(wrapper: Any) -> None:
        raise OperationalError("the connection was lost")

    monkeypatch.setattr(Wrapper, "_commit", lose)
    assert outcome(world.reverse(redemption, 2, key="key-1")) == (503, 886)
    monkeypatch.undo()
    assert world.reverse(redemption, 2, key="key-1").status_code == 200


def test_calls_are_refused_without_a_wait_until_the_database_commits_again(
    world: World, redemption: Redemption, monkeypatch: pytest.MonkeyPatch
) -> None:
    gave_up.set()
    health.forget()
    with monkeypatch.context() as away, ThreadPoolExecutor(1) as prober:
        away.setattr(health, "prober", prober)
        away.setattr(health, "_write_to_postgresql", lambda probe: time.sleep(1))
        assert outcome(world.reverse(redemption, 2, key="key-1")) == (503, 898)
        read = world.read(f"/v2/points/redemptions/{redemption.public_id}")
        assert read.status_code in {200, 503}  # a read needs no COMMIT, but has no time to connect again
        prober.submit(connections.close_all)
    assert world.reverse(redemption, 2, key="key-1").status_code == 200
    assert not gave_up.is_set()


def test_page_that_waits_too_long_is_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    staff = staff_of(world, "Support", username=f"support.{world.org.id}")
    monkeypatch.setattr(limits, "SECONDS_OF_A_STATEMENT", 0.3)
    with connection.execute_wrapper(sleeping_before("loyalty_redemption")):
        response = staff.get("/admin/loyalty/redemption/")
    assert response.status_code == 503


def _hosts(*hosts: tuple[str, int | str]) -> dict[str, Any]:
    """The parameters of the tests' database, as the last of several hosts."""
    own = connection.get_connection_params()
    last = (str(own["host"]), str(own.get("port", "")))
    both = [*((host, str(port)) for host, port in hosts), last]
    return own | {"host": ",".join(host for host, _ in both), "port": ",".join(port for _, port in both)}


def _seconds_to_connect(parameters: dict[str, Any]) -> float:
    started = time.monotonic()
    with closing(base.connect(parameters)) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
    return time.monotonic() - started


def test_silent_first_host_costs_its_timeout_once() -> None:
    with silent_address() as port:
        parameters = _hosts(("127.0.0.1", port))
        seconds = [_seconds_to_connect(parameters) for _ in range(3)]
    assert seconds[0] > 1.5
    assert max(seconds[1:]) < 1


def test_host_that_failed_longest_ago_is_tried_first_among_those_that_failed() -> None:
    first, second = free_port(), free_port()
    parameters = _hosts(("127.0.0.1", first), ("127.0.0.1", second))
    _seconds_to_connect(parameters)
    assert [port for _, port in sorted(base._failed_at, key=lambda each: base._failed_at[each])] == [
        str(first),
        str(second),
    ]


def test_error_names_each_host_if_none_can_be_used() -> None:
    ports = free_port(), free_port()
    parameters = {"host": "127.0.0.1,127.0.0.1", "port": ",".join(map(str, ports)), "dbname": "x", "user": "x"}
    with pytest.raises(psycopg.OperationalError, match="no host can be used") as raised:
        base.connect(parameters)
    assert all(f"port {port} failed" in str(raised.value) for port in ports)


def test_connecting_ends_within_the_limit_of_a_call() -> None:
    with silent_address() as one, silent_address() as two, Limit(2.5):
        parameters = {"host": "127.0.0.1,127.0.0.1", "port": f"{one},{two}", "dbname": "x", "user": "x"}
        started = time.monotonic()
        with pytest.raises(TookTooLong):
            base.connect(parameters | {"connect_timeout": 30})
        assert time.monotonic() - started < 3
