"""Reads while the database fails, waits for a lock, is read-only, or changes between two queries."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from django.http import HttpResponse

from loyalty.models import Redemption
from reversals.models import Reversal
from tests.builders import World, make_world, redeemed

pytestmark = pytest.mark.usefixtures("committed")


def addresses(world: World, redemption: Redemption) -> list[str]:
    return [
        f"/v2/points/redemptions/{redemption.public_id}",
        f"/v2/points/reversals/{Reversal.objects.get(org=world.org).public_id}",
        f"/v2/points/reversals?customerId={world.asha.public_id}",
        f"/v2/customers/{world.asha.public_id}/points",
    ]


def outcome(response: HttpResponse) -> tuple[int, int, str, str]:
    (error,) = response.json()["errors"]
    return response.status_code, error["code"], error["message"], response["Retry-After"]


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def redemption(world: World) -> Redemption:
    redemption = redeemed(world, 10)
    world.reverse(redemption, 2)
    return redemption


def test_a_database_that_cannot_be_reached_is_898(
    world: World, redemption: Redemption, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = addresses(world, redemption)
    connection.close()
    with monkeypatch.context() as away:
        if connection.vendor == "postgresql":
            away.setitem(connection.settings_dict, "HOST", "127.0.0.1")
            away.setitem(connection.settings_dict, "PORT", "1")
        else:
            away.setitem(connection.settings_dict, "NAME", "/nowhere/test.sqlite3")
        outcomes = {outcome(world.read(address)) for address in paths}
        connection.close()
    assert outcomes == {(503, 898, "Service currently unavailable", "30")}
    assert [world.read(address).status_code for address in paths] == [200] * 4


@pytest.mark.parametrize("number", [2, 3])
def test_connection_lost_after_authentication_is_898(
    on_postgresql: None, world: World, redemption: Redemption, number: int
) -> None:
    for address in addresses(world, redemption):
        with connection.execute_wrapper(_before_statement(number, _lose_the_connection)):
            response = world.read(address)
        assert outcome(response) == (503, 898, "Service currently unavailable", "30")
        assert world.read(address).status_code == 200


def _lose_the_connection() -> None:
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute(f"SELECT pg_terminate_backend({connection.connection.info.backend_pid})")


def test_lock_timeout_is_896(on_postgresql: None, world: World, redemption: Redemption) -> None:
    address = addresses(world, redemption)[0]
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("LOCK TABLE loyalty_redemption IN ACCESS EXCLUSIVE MODE")
        response = world.read(address)
        other.rollback()
    assert outcome(response) == (503, 896, "Request could not be processed", "1")
    assert world.read(address).status_code == 200


def test_reads_work_with_a_read_only_database(world: World, redemption: Redemption) -> None:
    paths = addresses(world, redemption)
    on_postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on" if on_postgresql else "PRAGMA query_only = ON")
    statuses = [world.read(address).status_code for address in paths]
    connection.close()
    assert statuses == [200] * 4


def test_redemption_and_its_reversals_are_read_in_one_snapshot(world: World, redemption: Redemption) -> None:
    def reverse_meanwhile() -> None:
        def ask() -> None:
            statuses.append(world.reverse(redemption, 3).status_code)
            connections.close_all()

        asking = threading.Thread(target=ask)
        asking.start()
        asking.join()

    statuses: list[int] = []
    with connection.execute_wrapper(_before_a_read_of("loyalty_draw", reverse_meanwhile)):
        body = world.read(f"/v2/points/redemptions/{redemption.public_id}").json()
    assert statuses == [200]
    assert body["pointsReversed"] == 2.0
    assert [draw["pointsReversed"] for draw in body["draws"]] == [2.0]
    assert [reversal["pointsReversed"] for reversal in body["reversals"]] == [2.0]
    assert world.read(f"/v2/points/redemptions/{redemption.public_id}").json()["pointsReversed"] == 5.0


def test_a_read_leaves_no_transaction_open(world: World, redemption: Redemption) -> None:
    for public_id in (redemption.public_id, "unknown"):
        world.read(f"/v2/points/redemptions/{public_id}")
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("COMMIT")
    assert world.reverse(redemption, 1).status_code == 200


def _before_statement(number: int, act: Callable[[], object]) -> Callable[..., Any]:
    statements: list[str] = []

    def wrapper(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        statements.append(sql)
        if len(statements) == number:
            act()
        return execute(sql, *rest)

    return wrapper


def _before_a_read_of(table: str, act: Callable[[], object]) -> Callable[..., Any]:
    def wrapper(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if f'FROM "{table}"' in sql:
            act()
        return execute(sql, *rest)

    return wrapper
