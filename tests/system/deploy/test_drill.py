"""A backup taken under load is restored, keeps every law, and replays the answers that were given before it."""

import json
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.postgresql import PROGRAMS
from tests.serving import manage
from tests.system.deploy.machines import DEPLOY
from tests.system.faults.conftest import Stage
from tests.system.faults.load import HEADERS, Load
from tests.system.faults.machines import Server, environment_of, wait_until


def _run(words: list[str]) -> None:
    environment = os.environ | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.deep
def test_backup_taken_under_load_is_restored_and_replays_its_answers(stage: Stage, tmp_path: Path) -> None:
    assert stage.database is not None
    server = Server(stage.environment)
    with Load([server.connect], stage.redemptions, name="drill") as load:
        wait_until(lambda: load.answered() >= 60)
        answered_before = dict(load.journal.answers)
        _run([str(DEPLOY / "backup"), stage.url, str(tmp_path / "backup")])
    server.stop()
    manage(stage.environment, ("seal_ledger", "--anchor", str(tmp_path / "anchor")))

    with stage.database.connected() as connection:
        connection.execute("CREATE DATABASE restored")
    kept = stage.database.rows("SELECT kind, size FROM reversals_backup")
    assert kept == [("dump", (tmp_path / "backup").stat().st_size)]
    url = stage.url.replace("/postgres?", "/restored?")
    _run([str(DEPLOY / "restore"), str(tmp_path / "backup"), url])
    restored = environment_of(url)
    assert json.loads(manage(restored, ("verify_ledger", "--json")))["ok"]

    server = Server(restored)
    try:
        accepted = {key: body for key, (status, body) in answered_before.items() if status == 200}
        assert len(accepted) >= 50
        for key, body in accepted.items():
            assert _send_again(server, key, body) == ("true", body)
        # The movements after the backup are lost; each of their keys can be used again.
        lost = {key: body for key, (_, body) in load.journal.answers.items() if key not in answered_before}
        assert lost
        with Load([server.connect], stage.redemptions, name="after-the-drill") as again:
            wait_until(lambda: again.answered() >= 20)
        assert not again.journal.unanswered
        assert not any(code.startswith("5") for code in again.journal.codes)
    finally:
        server.stop()
    assert json.loads(manage(restored, ("verify_ledger", "--json")))["ok"]


def test_restored_copy_of_sqlite_keeps_the_laws_and_never_appends_to_the_live_anchor(
    sqlite_stage: Stage,
    tmp_path: Path,
) -> None:
    live, anchor = sqlite_stage.environment, str(tmp_path / "anchor")
    manage(live, ("seal_ledger", "--anchor", anchor))
    before = Path(anchor).read_bytes()
    _run([str(DEPLOY / "backup"), sqlite_stage.url, str(tmp_path / "backup")])
    with closing(sqlite3.connect(sqlite_stage.url.removeprefix("sqlite:///"))) as file:
        size = (tmp_path / "backup").stat().st_size
        assert file.execute("SELECT kind, size FROM reversals_backup").fetchall() == [("copy", size)]

    url = f"sqlite:///{tmp_path / 'restored.sqlite3'}"
    _run([str(DEPLOY / "restore"), str(tmp_path / "backup"), url])
    restored = environment_of(url)
    assert json.loads(manage(restored, ("verify_ledger", "--json", "--anchor", anchor)))["ok"]
    with pytest.raises(AssertionError, match="belongs to another database"):
        manage(restored, ("seal_ledger", "--anchor", anchor))
    assert Path(anchor).read_bytes() == before
    manage(restored, ("seal_ledger", "--anchor", str(tmp_path / "own")))
    with pytest.raises(AssertionError, match="exists; move it away first"):
        _run([str(DEPLOY / "restore"), str(tmp_path / "backup"), url])


def _send_again(server: Server, key: str, body: dict[str, object]) -> tuple[str | None, object]:
    """Sends the request that was answered with `body` again under the same key, and returns the answer."""
    customer_id = body["customerId"]
    if "reversalId" in body:
        path = "/v2/points/reverse"
        request = {"redemptionId": body["redemptionId"], "identifier": body["identifier"]}
        if body["pointsToBeReversed"] == 0.001:
            request["pointsToBeReversed"] = 0.001
    else:
        path, request = f"/v2/customers/{customer_id}/redemptions", {"points": 0.001, "programId": "973"}
    with closing(server.connect()) as connection:
        connection.request("POST", path, json.dumps(request), HEADERS | {"Idempotency-Key": key})
        response = connection.getresponse()
        return response.headers.get("Idempotent-Replayed"), json.loads(response.read())
