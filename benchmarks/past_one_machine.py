"""Compares two servers with nginx, PgBouncer and a replica for pages with one server, all on this machine."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks import ledgers
from benchmarks.machines import POSTGRESQL, Ledger, Measured
from benchmarks.results import Looks
from tests.postgresql import Replica
from tests.serving import manage
from tests.system.deploy.machines import create_role, stacked
from tests.system.deploy.reader import Reader
from tests.system.faults.machines import Database

ROWS = 100_000


def measure(rounds: int, seconds: int) -> tuple[dict[tuple[str, int, int], list[Measured]], Looks]:
    """Returns the runs of both by name, and the looks into the back office meanwhile.

    It starts a separate PostgreSQL, because a replica of the main one would also copy its large ledgers.
    """
    measured = defaultdict(list)
    with ExitStack() as parts:
        database = Database()
        parts.callback(database.remove)
        database.configure(POSTGRESQL | {"shared_buffers": "1GB"})
        alone = Ledger(_build(database), ROWS)
        replica = Replica(alone.url)
        parts.callback(replica.remove)
        replica_url = replica.url_of(alone.url)
        environment = ledgers.environment_of(alone.url)
        servers = stacked(database, environment | {"DATABASE_REPLICA_URL": replica_url})
        _, through = parts.enter_context(servers)
        alone.serve()
        parts.callback(alone.server.stop)
        together = Ledger(alone.url, ROWS, address=f"https://localhost:{through.args[1]}")
        together.next_call = ROWS // 4  # so that both do not reverse the same redemptions
        reader = Reader(through, environment, replica_url)
        for _ in range(rounds):
            for name, run in _runs(alone, together, reader, seconds).items():
                measured[*name, ROWS].append(run())
        manage(environment, ("verify_ledger",))
    if reader.missed:
        raise RuntimeError(f"{reader.missed} of {len(reader.seconds)} looks did not show the latest redemption")
    return measured, Looks(reader.seconds, reader.from_replica)


def _build(database: Database) -> str:
    """Builds a ledger in the database of the application's role; returns the URL of the owner of its tables."""
    create_role(database.url)
    url = database.url.replace("/postgres?", "/loyalty?")
    ledgers.build(url, ROWS)
    with database.connected() as connection:
        connection.execute("GRANT pg_read_all_data, pg_write_all_data TO loyalty")
    return url


def _runs(
    alone: Ledger, together: Ledger, reader: Reader, seconds: int
) -> dict[tuple[str, int], Callable[[], Measured]]:
    """Each run of a round by its name: the setup, and the number of clients."""

    def ask(ledger: Ledger, clients: int) -> Callable[[], Measured]:
        return lambda: ledger.ask("reverse", clients=clients, seconds=seconds)

    def ask_while_pages_are_read() -> Measured:
        with reader:
            return ask(together, 8)()

    return {
        ("one server", 8): ask(alone, 8),
        ("two servers", 8): ask(together, 8),
        ("two servers and pages", 8): ask_while_pages_are_read,
        ("one server", 32): ask(alone, 32),
        ("two servers", 32): ask(together, 32),
    }
