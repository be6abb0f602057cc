"""Another node takes over, as `deploy/ha` configures it: no acknowledged movement is lost, and calls go on."""

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.system.deploy.cluster import Cluster, Node
from tests.system.deploy.machines import create_role
from tests.system.faults.conftest import ANSWERED_WITHIN_SECONDS, Fault, Stage, make_stage
from tests.system.faults.machines import Server, wait_until

pytestmark = pytest.mark.deep

# The way through PgBouncer is the same in this respect.
directly = pytest.mark.parametrize("server", ["direct"], indirect=True)
Serve = Callable[..., Server]
ACCEPTED_WITHIN_SECONDS = 15


@pytest.fixture(scope="module")
def cluster(once: None) -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture(scope="module")
def stage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    create_role(cluster.superuser_url)
    database: Any = cluster
    return make_stage(cluster.application_url, database, tmp_path_factory.mktemp("ledger"))


@pytest.fixture(params=["direct", "through PgBouncer"])
def server(request: pytest.FixtureRequest, cluster: Cluster, stage: Stage, serve: Serve) -> Iterator[Server]:
    cluster.wait_until_whole()
    pooled = {"DATABASE_URL": cluster.pooled_url, "DATABASE_POOLER": "on"}
    server = serve(stage, environment=pooled if "PgBouncer" in request.param else {})
    yield server
    server.stop()


def note_election(cluster: Cluster, former: Node, fault: Fault) -> None:
    """Waits until another node is the primary and accepts a call, and notes how long both take."""
    broken = time.monotonic()
    wait_until(lambda: cluster.leader(other_than=former) is not None)
    elected = time.monotonic()
    fault.elected_seconds = round(elected - broken, 1)
    wait_until(lambda: fault.journal.accepted_at[-1] > elected)
    fault.accepted_seconds = round(next(at for at in fault.journal.accepted_at if at > elected) - elected, 1)
    fault.injected += 1


def leader_of(cluster: Cluster) -> Node:
    leader = cluster.leader()
    assert leader is not None
    return leader


def check(fault: Fault) -> None:
    assert not fault.journal.codes["no answer"]
    assert fault.accepted_seconds < ACCEPTED_WITHIN_SECONDS
    assert fault.slowest_seconds < ANSWERED_WITHIN_SECONDS


def test_primary_that_is_killed_is_replaced_and_comes_back_as_standby(
    cluster: Cluster, stage: Stage, server: Server
) -> None:
    former = leader_of(cluster)
    with stage.under_load("primary killed with -9", server) as fault:
        former.kill()
        note_election(cluster, former, fault)
        former.start()
        cluster.wait_until_whole()
    check(fault)


def test_primary_that_is_frozen_is_replaced_and_acknowledges_nothing_when_it_resumes(
    cluster: Cluster, stage: Stage, server: Server
) -> None:
    former = leader_of(cluster)
    with stage.under_load("primary frozen", server) as fault:
        former.signal(signal.SIGSTOP)
        try:
            note_election(cluster, former, fault)
        finally:
            former.signal(signal.SIGCONT)
        cluster.wait_until_whole()
    check(fault)


@directly
def test_primary_whose_postgresql_alone_is_frozen_is_replaced(cluster: Cluster, stage: Stage, server: Server) -> None:
    former = leader_of(cluster)
    frozen = [process for process in former.all_processes() if process.name() == "postgres"]
    with stage.under_load("PostgreSQL of the primary frozen", server) as fault:
        for process in frozen:
            process.send_signal(signal.SIGSTOP)
        try:
            note_election(cluster, former, fault)
        finally:
            for process in frozen:
                process.send_signal(signal.SIGCONT)
        cluster.wait_until_whole()
    check(fault)


def test_primary_that_is_cut_off_is_replaced_and_steps_down_by_itself(
    cluster: Cluster, stage: Stage, server: Server
) -> None:
    former = leader_of(cluster)
    with stage.under_load("primary cut off", server) as fault:
        former.cut_off()
        try:
            note_election(cluster, former, fault)
        finally:
            former.connect_again()
        cluster.wait_until_whole()
    check(fault)


def test_switchover_in_order_loses_nothing(cluster: Cluster, stage: Stage, server: Server) -> None:
    former = leader_of(cluster)
    with stage.under_load("switchover", server) as fault:
        cluster.switch_over()
        note_election(cluster, former, fault)
        cluster.wait_until_whole()
    check(fault)


@directly
def test_synchronous_standby_that_is_killed_is_replaced_by_the_other_one(
    cluster: Cluster, stage: Stage, server: Server
) -> None:
    leader = leader_of(cluster)
    [standby] = [node for node in cluster.nodes if node.asked("/sync")]
    with stage.under_load("synchronous standby killed with -9", server) as fault:
        standby.kill()
        killed = time.monotonic()
        fault.injected += 1
        wait_until(lambda: any(node is not standby and node.asked("/sync") for node in cluster.nodes))
        wait_until(lambda: fault.journal.accepted_at[-1] > killed + 2)
        standby.start()
        cluster.wait_until_whole()
    check(fault)
    assert cluster.leader() is leader
