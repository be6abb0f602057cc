"""Two servers whose clocks are two hours apart agree on what has expired, because the database's clock decides."""

import csv
import json
import os
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from loyalty.importing.files import CUSTOMERS, POINTS, REDEMPTIONS
from tests.serving import manage
from tests.system.faults.conftest import ORG, Stage
from tests.system.faults.load import HEADERS
from tests.system.faults.machines import Server, wait_until

Serve = Callable[..., Server]

_keys = count(1)

# Python reads this file when it starts, in the server and in each of its workers.
SHIFTED_CLOCK = """
import os
from datetime import datetime, timedelta, timezone

import time_machine

shift = timedelta(hours=int(os.environ["CLOCK_IS_FAST_BY_HOURS"]))
time_machine.travel(datetime.now(timezone.utc) + shift, tick=True).start()
"""


def import_members(stage: Stage, folder: Path, *members: int) -> None:
    """Imports customers, each with a lot of 10 points and a redemption of 4 of them."""
    awarded_at, redeemed_at = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
    files: dict[str, tuple[Iterable[str], Callable[[int], list[Any]]]] = {
        "customers": (CUSTOMERS, lambda member: [ORG, member, "ACTIVE", *[""] * (len(CUSTOMERS) - 3)]),
        "points": (POINTS, lambda member: [ORG, 973, member, f"CLOCK-{member}", 10, awarded_at, "2099-01-01T00:00Z"]),
        "redemptions": (REDEMPTIONS, lambda member: [ORG, 973, member, f"CLOCK-{member}", 4, redeemed_at, "", ""]),
    }
    ledger = folder / "ledger"
    ledger.mkdir()
    for name, (header, row_of) in files.items():
        with (ledger / f"{name}.csv").open("w") as file:
            csv.writer(file).writerows([header, *map(row_of, members)])
    manage(stage.environment, ("import_ledger", str(ledger)))


def ask(server: Server, address: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    with closing(server.connect()) as connection:
        method, content = ("GET", None) if body is None else ("POST", json.dumps(body))
        headers = HEADERS | {"Idempotency-Key": f"clock-{next(_keys)}"}
        connection.request(method, address, content, headers)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
    return answer


def points_of(server: Server, member: int) -> tuple[float, float]:
    """The available and the expired points."""
    body = ask(server, f"/v2/customers/{member}/points")
    return body["available"], body["expired"]


def reverse_one(server: Server, member: int) -> dict[str, float]:
    identifier = {"type": "ID", "value": str(member)}
    body = {"redemptionId": f"CLOCK-{member}", "identifier": identifier, "pointsToBeReversed": 1}
    details: dict[str, float] = ask(server, "/v2/points/reverse", body)["pointsReversedDetails"]
    return details


@pytest.fixture
def servers(stage: Stage, serve: Serve, tmp_path: Path) -> list[Server]:
    """One server whose clock is an hour behind, and one whose clock is an hour ahead."""
    (tmp_path / "sitecustomize.py").write_text(SHIFTED_CLOCK)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    return [
        serve(stage, workers=1, environment={"PYTHONPATH": path, "CLOCK_IS_FAST_BY_HOURS": hours})
        for hours in ("-1", "1")
    ]


def test_servers_with_clocks_two_hours_apart_agree_before_and_after_expiry(
    stage: Stage, servers: list[Server], tmp_path: Path
) -> None:
    members = (1001, 1002)
    import_members(stage, tmp_path, *members)
    database = stage.database
    assert database is not None
    lots = "loyalty_lot WHERE lot_ref LIKE 'CLOCK-%%'"
    with database.connected() as connection:
        connection.execute(
            "UPDATE loyalty_lot SET expires_at = clock_timestamp() + INTERVAL '5 s' WHERE lot_ref LIKE 'CLOCK-%'"
        )
    for server, member in zip(servers, members, strict=True):
        assert points_of(server, member) == (6.0, 0.0)
        assert reverse_one(server, member) == {"available": 1.0, "expired": 0.0}
        assert "redemptionId" in ask(server, f"/v2/customers/{member}/redemptions", {"points": 2})
    # The steps above ran before the expiry.
    assert database.rows(f"SELECT bool_and(expires_at > clock_timestamp()) FROM {lots}") == [(True,)]
    wait_until(lambda: database.rows(f"SELECT bool_and(expires_at <= clock_timestamp()) FROM {lots}") == [(True,)])
    for server, member in zip(servers, members, strict=True):
        assert points_of(server, member) == (0.0, 5.0)
        assert reverse_one(server, member) == {"available": 0.0, "expired": 1.0}
        refusal = ask(server, f"/v2/customers/{member}/redemptions", {"points": 2})
        assert refusal["errors"][0]["code"] == 818
    [(difference,)] = database.rows(
        "SELECT max(attempt.created_at) - min(attempt.created_at) FROM reversals_attempt attempt"
        " JOIN reversals_reversal reversal ON reversal.id = attempt.reversal_id"
        " JOIN loyalty_redemption redemption ON redemption.id = reversal.redemption_id"
        " WHERE redemption.public_id LIKE 'CLOCK-%%'"
    )
    assert difference > timedelta(hours=2)
    assert json.loads(manage(stage.environment, ("verify_ledger", "--json")))["ok"]
