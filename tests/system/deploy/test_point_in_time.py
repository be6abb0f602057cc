"""A restore to the moment between two reversals, with pgBackRest and the files of `deploy/`."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.postgresql import run_script
from tests.serving import manage
from tests.system.deploy.archived import ArchivedDatabase
from tests.system.deploy.machines import DEPLOY, PASSWORD
from tests.system.faults.conftest import Stage, make_stage
from tests.system.faults.load import HEADERS
from tests.system.faults.machines import Server, free_port, wait_until

REVERSE = "/v2/points/reverse"


@pytest.fixture(scope="module")
def archived(once: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ArchivedDatabase, Stage]]:
    """A live database with one full backup, and its stage."""
    database = ArchivedDatabase()
    try:
        run_script(database.url(database.port, "postgres", "postgres"), DEPLOY / "role.sql", DATABASE_PASSWORD=PASSWORD)
        stage = make_stage(database.url(database.port), None, tmp_path_factory.mktemp("ledger"))
        database.run("pgbackrest", "--stanza=loyalty", "stanza-create")
        database.run("pgbackrest", "--stanza=loyalty", "check")
        database.run("sh", str(DEPLOY / "pgbackrest-backup"), "full")
        yield database, stage
    finally:
        database.remove()


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[Server]:
    server = Server(environment, workers=1)
    try:
        yield server
    finally:
        server.stop()


def reverse(server: Server, customer_id: int, key: str) -> tuple[str | None, dict[str, Any]]:
    """Reverses the customer's redemption; returns whether the reply was replayed, and the reply."""
    body = {"redemptionId": f"R{customer_id}", "identifier": {"type": "ID", "value": str(customer_id)}}
    with closing(server.connect()) as connection:
        connection.request("POST", REVERSE, json.dumps(body), HEADERS | {"Idempotency-Key": key})
        response = connection.getresponse()
        reply = json.load(response)
    assert response.status == 200, reply
    return response.headers["Idempotent-Replayed"], reply


def seal(environment: dict[str, str], anchor: Path, *options: str) -> dict[str, Any]:
    sealed: dict[str, Any] = json.loads(
        manage(environment, ("seal_ledger", "--anchor", str(anchor), "--json", *options))
    )
    return sealed


def assert_sound(environment: dict[str, str], *options: str) -> None:
    assert json.loads(manage(environment, ("verify_ledger", "--json", *options)))["ok"]


def test_finished_backup_is_recorded_with_its_kind_and_size(archived: tuple[ArchivedDatabase, Stage]) -> None:
    database, _ = archived
    database.run("sh", str(DEPLOY / "pgbackrest-backup"), "diff")
    columns = "kind, size > 1000, now() - finished_at < '5 minutes'"
    recorded = database.rows(f"SELECT {columns} FROM reversals_backup ORDER BY id")
    assert recorded == [("full", True, True), ("diff", True, True)]


def test_ledger_is_restored_to_the_moment_between_two_reversals(
    archived: tuple[ArchivedDatabase, Stage], tmp_path: Path
) -> None:
    database, stage = archived
    anchor = tmp_path / "live.anchor"
    with serving(stage.environment) as server:
        _, first = reverse(server, 1, "before")
        seal(stage.environment, anchor)
        _, second = reverse(server, 2, "after")
    [(moment,)] = database.rows("SELECT created_at FROM reversals_reversal WHERE public_id = %s", second["reversalId"])
    assert_archived(database)

    copy, port = database.folder / "copy", free_port()
    options = ("--type=time", f"--target={moment}", "--target-action=promote", "--archive-mode=off")
    database.restore(copy, *options)
    database.start(copy, port)
    wait_until(lambda: database.rows("SELECT NOT pg_is_in_recovery()", port=port) == [(True,)])
    restored = stage.environment | {"DATABASE_URL": database.url(port)}
    reversals = database.rows("SELECT public_id FROM reversals_reversal", port=port)
    assert reversals == [(first["reversalId"],)]
    assert_sound(restored)
    assert_copy_never_appends(stage, restored, anchor)

    with serving(restored) as server:
        assert reverse(server, 1, "before") == ("true", first)
        replayed, again = reverse(server, 2, "after")
        assert (replayed, again["pointsReversed"]) == (None, second["pointsReversed"])
    own = tmp_path / "copy.anchor"
    assert seal(restored, own)["seals"] == 1
    assert_sound(restored, "--anchor", str(own))
    assert seal(stage.environment, anchor)["seals"] == 1
    assert_sound(stage.environment, "--anchor", str(anchor))


def assert_archived(database: ArchivedDatabase) -> None:
    """Waits until everything that is committed is in the repository."""
    [(segment,)] = database.rows("SELECT pg_walfile_name(pg_switch_wal())")
    archived = "SELECT last_archived_wal >= %s FROM pg_stat_archiver"
    wait_until(lambda: database.rows(archived, segment) == [(True,)])


def assert_copy_never_appends(stage: Stage, restored: dict[str, str], anchor: Path) -> None:
    """The copy has the same seals as the live database, and is refused all the same."""
    [heads] = {json.dumps(seals_of(url)) for url in (stage.url, restored["DATABASE_URL"])}
    assert heads != "[]"
    before = anchor.read_bytes()
    with pytest.raises(AssertionError, match="belongs to another database"):
        seal(restored, anchor)
    assert anchor.read_bytes() == before
    assert json.dumps(seals_of(restored["DATABASE_URL"])) == heads


def seals_of(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as session:
        return session.execute("SELECT id, hash FROM reversals_seal ORDER BY id").fetchall()
