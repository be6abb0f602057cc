"""Runs tests on a Citus cluster. `python -m tests.cluster [pytest options]` needs CITUS_URL.

CITUS_URL names a database on the coordinator to which the nodes were added. The tests create databases of their own on
all nodes, and remove them.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg

from tests.templates import ROOT, url_of

NAME = "loyalty_cluster_test"
# The rest needs no database, or creates its own.
FOLDERS = ["tests/movements", "tests/api", "tests/database", "tests/backoffice"]


@contextmanager
def distributed_database(
    cluster: str, name: str = NAME, *, workers: int | None = None, shards: int = 32
) -> Iterator[str]:
    """Creates a migrated and distributed database on all nodes of the cluster, yields its URL, and removes it.

    Its role has the same name. It is not that of the extension, which moves shards and waits longer for locks.

    With `workers`, only so many workers are added to it.
    """
    nodes = nodes_of(cluster)
    _remove(nodes, name)
    try:
        for node in nodes:
            with psycopg.connect(url_of(node, "postgres"), autocommit=True) as session:
                session.execute(f"CREATE DATABASE {name}")
                session.execute(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD '{urlsplit(node).password or ''}'")
            with psycopg.connect(url_of(node, name), autocommit=True) as session:
                session.execute("CREATE EXTENSION citus")
        url = url_of(nodes[0], name)
        own = as_role(url, name)
        with psycopg.connect(url, autocommit=True) as session:
            coordinator = urlsplit(nodes[0])
            session.execute("SELECT citus_set_coordinator_host(%s, %s)", [coordinator.hostname, coordinator.port])
            for worker in nodes[1:][:workers]:
                add_node(session, worker)
        manage(own, "migrate", "--verbosity", "0")
        manage(own, "distribute_ledger", "--shards", str(shards))
        yield own
    finally:
        _remove(nodes, name)


def add_node(session: psycopg.Connection[Any], node: str) -> None:
    """Adds the node with this URL to the cluster of the session's database."""
    parts = urlsplit(node)
    session.execute("SELECT citus_add_node(%s, %s)", [parts.hostname, parts.port])


def as_role(url: str, role: str) -> str:
    """Returns the URL with this role, and the same password."""
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{role}:{parts.password or ''}{at or '@'}{host}").geturl()


def nodes_of(cluster: str) -> list[str]:
    """Returns the URLs of the cluster's nodes, the coordinator first."""
    with psycopg.connect(cluster, autocommit=True) as session:
        rows = session.execute("SELECT nodename, nodeport FROM pg_dist_node ORDER BY groupid").fetchall()
    parts = urlsplit(cluster)
    user = parts.netloc.rpartition("@")[0]
    return [parts._replace(netloc=f"{user}@{host}:{port}").geturl() for host, port in rows]


def manage(url: str, *words: str) -> str:
    """Runs a command on the database and returns its output."""
    environment = os.environ | {"DATABASE_URL": url, "SECRET_KEY": "a-secret-key-for-the-tests-of-a-cluster"}
    done = subprocess.run(
        [sys.executable, "manage.py", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _remove(nodes: list[str], name: str) -> None:
    with ExitStack() as sessions:
        for node in nodes:
            session = sessions.enter_context(psycopg.connect(url_of(node, "postgres"), autocommit=True))
            session.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            session.execute(f"DROP ROLE IF EXISTS {name}")


def main(arguments: list[str]) -> int:
    cluster = os.environ.get("CITUS_URL")
    if not cluster:
        print("CITUS_URL is not set, so the tests on a Citus cluster were left out.")
        return 0
    with distributed_database(cluster) as url:
        environment = os.environ | {"DATABASE_URL": url, "TEST_DATABASE_KEPT": "1"}
        words = [sys.executable, "-m", "pytest", "-m", "not deep and not once", *(arguments or FOLDERS)]
        return subprocess.run(words, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
