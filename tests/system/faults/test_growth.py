"""A Citus cluster grows while clients call: a node is added, and the org gets a shard and a node of its own."""

import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.cluster import add_node, as_role, distributed_database, nodes_of
from tests.system.faults.conftest import ORG, Stage, make_stage
from tests.system.faults.machines import Server
from tests.templates import url_of

NAME = "loyalty_growth_test"
# The mode without blocking fails on Citus 13.0.5: its split does not send the primary key of the rows.
ISOLATE = f"SELECT isolate_tenant_to_new_shard('loyalty_customer', {ORG}, 'CASCADE', 'block_writes')"
pytestmark = pytest.mark.deep


class Coordinator:
    """The coordinator of a cluster, as the database of a stage."""

    def __init__(self, url: str) -> None:
        self.url = url

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as session:
            return session.execute(sql, parameters).fetchall()


@pytest.fixture(scope="module")
def nodes(once: None) -> list[str]:
    """The URLs of the cluster's nodes, the coordinator first."""
    if not os.environ.get("CITUS_URL"):
        pytest.skip("needs a Citus cluster in CITUS_URL")
    return nodes_of(os.environ["CITUS_URL"])


@pytest.fixture(scope="module")
def stage(nodes: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage on a cluster of the coordinator and one worker, with few shards, because each takes seconds to move."""
    with distributed_database(os.environ["CITUS_URL"], NAME, workers=1, shards=4) as url:
        database: Any = Coordinator(url)
        yield make_stage(url, database, tmp_path_factory.mktemp("ledger"))


def test_nothing_is_lost_while_a_node_is_added_and_an_org_moves_to_it(
    stage: Stage, nodes: list[str], serve: Callable[..., Server]
) -> None:
    """One server is connected to the coordinator, and one to the first worker."""
    coordinator, first, second = (url_of(node, NAME) for node in nodes[:3])
    servers = serve(stage), serve(Stage(as_role(first, NAME), stage.database))
    with psycopg.connect(coordinator, autocommit=True) as session:
        with stage.under_load("a node is added, and the shards are spread", *servers) as fault:
            add_node(session, second)
            session.execute("SELECT rebalance_table_shards()")
            fault.injected = 1
        with stage.under_load("the org gets its own shard, which moves to another node", *servers) as fault:
            shard = one(session, ISOLATE)
            here = one(session, "SELECT nodeport FROM pg_dist_shard_placement WHERE shardid = %s", shard)
            source, target = sorted((first, second), key=lambda node: urlsplit(node).port != here)
            session.execute(
                "SELECT citus_move_shard_placement(%s, %s, %s, %s, %s)", [shard, *host(source), *host(target)]
            )
            fault.injected = 2
        assert one(session, "SELECT nodeport FROM pg_dist_shard_placement WHERE shardid = %s", shard) != here


def one(session: psycopg.Connection[Any], sql: str, *parameters: object) -> Any:
    [(value,)] = session.execute(sql, parameters).fetchall()
    return value


def host(node: str) -> tuple[str | None, int | None]:
    parts = urlsplit(node)
    return parts.hostname, parts.port
