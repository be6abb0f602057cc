"""Two servers, PgBouncer, nginx and a replica together lose and duplicate nothing, and show no stale page."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.postgresql import Replica
from tests.system.deploy.conftest import Stack
from tests.system.deploy.machines import stacked
from tests.system.deploy.reader import Reader
from tests.system.faults.machines import wait_until


@pytest.fixture
def replica(stack: Stack) -> Iterator[Replica]:
    replica = Replica(stack.stage.url)
    yield replica
    replica.remove()


@pytest.mark.deep
def test_nothing_is_lost_and_no_page_is_stale_while_replica_is_behind_then_down(stack: Stack, replica: Replica) -> None:
    stage, url = stack.stage, replica.url_of(stack.stage.url)
    with stacked(stage.database, stage.environment | {"DATABASE_REPLICA_URL": url}) as (_, through):
        reader = Reader(through, stage.environment, url)

        def looks(count: int) -> None:
            before = len(reader.seconds)
            wait_until(lambda: len(reader.seconds) >= before + count)

        with stage.under_load("replica behind, then gone", through=through) as fault, reader:
            wait_until(lambda: reader.from_replica >= 5)
            with psycopg.connect(url, user="postgres", autocommit=True) as session:
                session.execute("SELECT pg_wal_replay_pause()")
                fault.injected += 1
                looks(2)
                read_there = reader.from_replica
                looks(5)
                assert reader.from_replica == read_there
                session.execute("SELECT pg_wal_replay_resume()")
            replica.stop()
            fault.injected += 1
            looks(5)
            replica.start()
            # A server skips a replica that did not answer for 30 s.
            wait_until(lambda: reader.from_replica >= read_there + 5, seconds=90)
    assert reader.missed == 0
