"""An org moves to another cell while tills keep calling; nothing is lost, duplicated, or written to the old cell."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import copy
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.serving import manage
from tests.system.faults.conftest import ORG, Fault, Stage, make_stage
from tests.system.faults.load import HEADERS, Load
from tests.system.faults.machines import Database, Server, wait_until

Serve = Callable[..., Server]


@pytest.fixture
def cells(once: None, tmp_path: Path) -> Iterator[tuple[Stage, Stage]]:
    """Two cells, each with its own database; the org with its ledger is in the first."""
    database = Database()
    first = make_stage(database.url, database, tmp_path)
    with database.connected() as session:
        session.execute("CREATE DATABASE second")
    beside = copy(database)
    beside.url = database.server.get_uri("second")
    second = Stage(beside.url, beside)
    manage(second.environment, ("migrate", "-v0"))
    yield first, second
    database.remove()


def ask(connect: Callable[[], HTTPConnection], number: int) -> tuple[bytes, str | None]:
    """Sends one call with a key; returns the bytes of the answer, and its `Idempotent-Replayed` header."""
    body = {"redemptionId": f"R{number}", "identifier": {"type": "ID", "value": str(number)}, "pointsToBeReversed": 1.5}
    with closing(connect()) as connection:
        connection.request("POST", "/v2/points/reverse", json.dumps(body), HEADERS | {"Idempotency-Key": f"t-{number}"})
        response = connection.getresponse()
        return response.read(), response.headers.get("Idempotent-Replayed")


def run(cell: Stage, *words: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(manage(cell.environment, (*words, "--json")))
    return result


@pytest.mark.deep
def test_org_that_moves_while_tills_call_loses_and_doubles_no_call(
    cells: tuple[Stage, Stage], serve: Serve, tmp_path: Path
) -> None:
    first, second = cells
    current, new = serve(first), serve(second)
    old = current
    answers = [ask(old.connect, number) for number in range(1, 6)]
    folder = str(tmp_path / "org")
    moved = Fault("an org moved to another cell", second, seen="503 898")
    with Load([lambda: current.connect()], first.redemptions, name=f"move-{time.time_ns()}") as load:
        wait_until(lambda: load.answered() >= 30)
        exported = run(first, "export_org", ORG, folder, "--to", "two.example")
        attempts = load.journal.tries
        wait_until(lambda: load.journal.tries >= attempts + 30)  # meanwhile every call is refused
        imported = run(second, "import_org", folder)
        current, answered = new, load.answered()
        switched_at = time.monotonic()
        wait_until(lambda: load.answered() >= answered + 30)
        moved.recovery_seconds = round(time.monotonic() - switched_at, 2)
        moved.injected += 1
    moved.judge(load)
    assert imported == {"org": int(ORG), "imported": True, "rows": exported["rows"], "ledger": "all laws hold"}
    assert [ask(new.connect, number) for number in range(1, 6)] == [(body, "true") for body, _ in answers]
    # The old cell replays known keys, writes nothing, and is unchanged since the export.
    assert ask(old.connect, 1) == (answers[0][0], "true")
    assert json.loads(ask(old.connect, 6)[0])["errors"][0]["code"] == 898
    assert run(first, "export_org", ORG, folder, "--check")["rows"] == exported["rows"]
    assert run(first, "verify_ledger")["ok"]
