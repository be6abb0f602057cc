"""Runs tests on a Citus cluster. `python -m tests.cluster [pytest options]` needs CITUS_URL.

CITUS_URL names a database on the coordinator to which the nodes were added. The tests create databases of their own on
all nodes, and remove them.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import psycopg

from tests.templates import ROOT, url_of

NAME = "loyalty_cluster_test"
# The rest needs no database, or creates its own.
FOLDERS = ["tests/movements", "tests/api", "tests/database", "tests/backoffice"]


@contextmanager
def distributed_database(cluster: str, name: str = NAME) -> Iterator[str]:
    """Creates a migrated and distributed database on all nodes of the cluster, yields its URL, and removes it."""
    nodes = nodes_of(cluster)
    _remove(nodes, name)
    try:
        for node in nodes:
            with psycopg.connect(url_of(node, "postgres"), autocommit=True) as session:
                session.execute(f"CREATE DATABASE {name}")
            with psycopg.connect(url_of(node, name), autocommit=True) as session:
                session.execute("CREATE EXTENSION citus")
        url = url_of(nodes[0], name)
        with psycopg.connect(url, autocommit=True) as session:
            coordinator, *workers = [urlsplit(node) for node in nodes]
            session.execute("SELECT citus_set_coordinator_host(%s, %s)", [coordinator.hostname, coordinator.port])
            for worker in workers:
                session.execute("SELECT citus_add_node(%s, %s)", [worker.hostname, worker.port])
        manage(url, "migrate", "--verbosity", "0")
        manage(url, "distribute_ledger")
        yield url
    finally:
        _remove(nodes, name)


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
