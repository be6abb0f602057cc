"""The demo refuses a database that it did not create."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from reversals import demo
from tests.serving import ROOT, manage
from tests.templates import copy_migrated_sqlite


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the run on SQLite has it")
def test_demo_refuses_a_database_that_is_in_use(tmp_path: Path) -> None:
    copy_migrated_sqlite(tmp_path / "used.sqlite3")
    environment = os.environ | {"DATABASE_URL": f"sqlite:///{tmp_path}/used.sqlite3"}
    manage(environment, ("create_org", "1", "Acme"))
    words = [sys.executable, "-m", "reversals.demo"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "the database in DATABASE_URL has orgs or users" in done.stderr


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the run on SQLite has it")
def test_new_database_of_the_demo_begins_with_a_new_anchor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    database, anchor = tmp_path / "demo.sqlite3", tmp_path / "demo.sqlite3.anchor"
    anchor.write_text("a seal of a database that is gone")
    demo._keep_the_anchor_beside(database)
    assert os.environ == {"LEDGER_ANCHOR": str(anchor)}
    assert not anchor.exists()
    database.touch()
    anchor.write_text("a seal of this database")
    demo._keep_the_anchor_beside(database)
    assert anchor.read_text() == "a seal of this database"
