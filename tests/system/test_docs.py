"""The documentation builds without a warning, and the tutorial works as it is written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from tests.serving import ROOT, serving
from tests.templates import copy_migrated_sqlite

TUTORIAL = ROOT / "docs" / "first-hour.md"


@pytest.fixture(autouse=True)
def _on_one_run() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the run on SQLite has it: the documentation does not depend on the database")


def test_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html", "docs", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    built = (tmp_path / "index.html").read_text()
    assert re.findall(r'(?:src|<link [^>]*href)="(?:https?:)?//', built) == []


def run(script: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on PATH")
def test_tutorial_works_command_by_command(tmp_path: Path) -> None:
    """Only places differ from the page: the database, the folder of files, the interpreter and the port."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    script = (
        "".join(blocks).replace("var/first-hour", f"{tmp_path}/first-hour").replace(".venv/bin/python", sys.executable)
    )
    before, after = script.removeprefix("make install\n").split("make serve\n")

    exported = run(before + "printf '\\n--\\n'; env -0", dict(os.environ)).rpartition("\n--\n")[2]
    environment = dict(each.split("=", 1) for each in exported.split("\0") if each)
    with serving(environment) as port:
        printed = run(after.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{port}"), environment)

    assert '"pointsReversed":50.0' in printed
    assert "idempotent-replayed: true" in printed.lower()
    assert re.search(r'"code":817,.*\b70\b', printed)
    assert "all hold" in printed


def test_commands_of_the_readme_make_an_org_that_can_be_called(tmp_path: Path) -> None:
    """Only the settings differ from the page: a database in a file, and no question for the superuser's password."""
    section = (ROOT / "README.md").read_text().split("\n## Run it in production\n")[1].split("\n## ")[0]
    first, second = re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    for name in (".env.example", "manage.py", "config", "loyalty", "reversals", "templates"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "var").mkdir()
    copy_migrated_sqlite(tmp_path / "var" / "loyalty.sqlite3")
    set_up = (
        "sed -i 's/^SECRET_KEY=.*/SECRET_KEY=of-this-test/' .env\nmake() { .venv/bin/python manage.py migrate -v0; }\n"
    )
    first = first.replace("make serve", f"{set_up}make serve")
    asked = "createsuperuser --noinput --username admin --email admin@shop.example"
    script = (first + second).replace("createsuperuser", asked).replace(".venv/bin/python", sys.executable)
    environment = {"PATH": os.environ["PATH"]}
    printed = run(f"cd {tmp_path}\n" + script, environment)
    assert "username: till.1" in printed
    assert "new_value: yes" in printed
