"""What holds on the nodes of a Citus cluster. Runs with `make cluster` only."""

import io
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from psycopg.conninfo import make_conninfo

from loyalty.fields import new_row_id
from loyalty.models import Draw
from reversals.models import Event, Reversal
from tests.builders import World, make_webhook, make_world, redeemed


@pytest.fixture
def reversal(committed: None, on_cluster: None) -> Reversal:
    world = make_world()
    redemption = redeemed(world, 10)
    assert world.reverse(redemption, 2).status_code == 200
    return redemption.reversals.get(org=world.org)


def shard_of(table: str, org_id: int) -> tuple[str, int]:
    """The name of the org's shard of the table, and the port of its node."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT get_shard_id_for_distribution_column(%s, %s)", [table, org_id])
        [shard] = cursor.fetchone()
        cursor.execute("SELECT nodeport FROM pg_dist_shard_placement WHERE shardid = %s", [shard])
        [port] = cursor.fetchone()
    return f"{table}_{shard}", port


def on_node(port: int) -> psycopg.Connection[Any]:
    """A session on the node, which may change shards past the coordinator."""
    own: Any = connection.connection
    url = make_conninfo(own.info.dsn, port=port, password=own.info.password)
    node = psycopg.connect(url, autocommit=True)
    node.execute("SET citus.enable_manual_changes_to_shards = on")
    return node


@pytest.mark.parametrize(
    "statement", ["UPDATE {shard} SET points = 1", "DELETE FROM {shard}", "TRUNCATE {shard}"], ids=str.split
)
def test_history_in_a_shard_is_append_only(reversal: Reversal, statement: str) -> None:
    shard, port = shard_of("reversals_reversalline", reversal.org_id)
    with on_node(port) as node, pytest.raises(psycopg.errors.RestrictViolation, match="line_append_only"):
        node.execute(statement.format(shard=shard))


def test_row_in_a_shard_cannot_refer_to_another_orgs_row(reversal: Reversal) -> None:
    foreign = Draw.objects.get(org=make_other().org)
    shard, port = shard_of("reversals_reversalline", reversal.org_id)
    row = [new_row_id(), reversal.org_id, reversal.id, foreign.id]
    with on_node(port) as node, pytest.raises(psycopg.errors.ForeignKeyViolation, match="line_draw_of_org"):
        node.execute(
            f"INSERT INTO {shard} (id, org_id, reversal_id, draw_id, points, points_available, points_expired)"
            " VALUES (%s, %s, %s, %s, 1, 1, 0)",
            row,
        )


def make_other() -> World:
    world = make_world()
    redeemed(world, 10)
    return world


def test_distribute_ledger_again_has_nothing_to_do(reversal: Reversal) -> None:
    printed = io.StringIO()
    call_command("distribute_ledger", "--json", stdout=printed)
    assert json.loads(printed.getvalue()) == {"executed": True, "statements": []}


@pytest.fixture
def each_node(committed: None, on_cluster: None) -> Iterator[list[int]]:
    """The ports of the nodes; the connection of the test returns to the coordinator after it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nodeport FROM pg_dist_node ORDER BY groupid")
        ports = [port for (port,) in cursor.fetchall()]
    own = connection.settings_dict["PORT"]
    yield ports
    connect_to(own)


def connect_to(port: object) -> None:
    connection.close()
    connection.settings_dict["PORT"] = port


def test_calls_through_each_node_keep_the_order_of_a_customers_events(each_node: list[int]) -> None:
    world = make_world()
    make_webhook(world.org)
    redemption = redeemed(world, 10)
    for points in (1, 2, 3, 4):
        connect_to(each_node[points % len(each_node)])
        assert world.reverse(redemption, points).status_code == 200
    events = Event.objects.filter(org=world.org).order_by("id")
    assert [json.loads(event.data)["redeemedPointsReversed"] for event in events] == [1, 2, 3, 4]
