"""The demo refuses a database that it did not create."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

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
