"""Decides how a statement names the org, on a single database and on a Citus cluster.

In a cluster, a statement runs on one node only if it compares the org of each distributed table with the org's id. On
a single PostgreSQL the same comparison can mislead the planner: for an org that is newer than the last ANALYZE it
expects almost no rows, and then reads all rows of the org by an index that begins with the org.
"""

from functools import cache
from typing import Any

from django.db import connection


@cache
def is_distributed() -> bool:
    """Whether `distribute_ledger` has distributed this database.

    Asked once per process, so servers must be restarted after that command.
    """
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('pg_dist_partition') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return False
        cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_dist_partition WHERE partmethod = 'h')")
        return bool(cursor.fetchone()[0])


def read_one_snapshot(cursor: Any) -> None:
    """Makes each node of a cluster read all of its shards in one snapshot, in a REPEATABLE READ transaction.

    Otherwise Citus may open several connections to a node, and each has a snapshot of its own. Rows of one org are on
    one node, so they are read as of one moment; those of another org may be read as of a moment later.
    """
    if is_distributed():
        cursor.execute("SET LOCAL citus.max_adaptive_executor_pool_size = 1")


def org_of(alias: str) -> str:
    """Returns SQL for the org of a table's row, to compare it with an org's id.

    Use it for a table whose rows are found by another index or condition. On a single database the sum hides the
    comparison from the planner.
    """
    return f"{alias}.org_id" if is_distributed() else f"{alias}.org_id + 0"
