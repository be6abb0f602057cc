"""The server runs from requirements.lock alone, without any package that only tests and tools need."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from django.db import connection

from config import __version__
from tests.serving import ROOT, serving

INSTALLED = "import json; from importlib.metadata import distributions; "
INSTALLED += "print(json.dumps([each.name for each in distributions()]))"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of a new venv with the packages of requirements.lock."""
    if connection.vendor != "sqlite":
        pytest.skip("runs once, with the tests on SQLite: the packages do not depend on the database")
    venv = tmp_path_factory.mktemp("runtime") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    interpreter = str(venv / "bin" / "python")
    install = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    subprocess.run([*install, "-r", "requirements.lock"], cwd=ROOT, check=True)
    return interpreter


def test_runtime_venv_has_the_locked_packages_and_no_others(python: str) -> None:
    found = subprocess.run([python, "-c", INSTALLED], capture_output=True, text=True, check=True).stdout
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    tools = {"pip", "setuptools"}  # of the venv itself
    installed = {canonical(name) for name in json.loads(found)} - tools
    assert installed <= locked
    assert {"django", "granian", "psycopg"} <= installed


def test_server_is_ready_from_the_runtime_venv(python: str, tmp_path: Path) -> None:
    environment = os.environ | {"DATABASE_URL": f"sqlite:///{tmp_path}/runtime.sqlite3"}
    subprocess.run([python, "manage.py", "migrate", "--verbosity", "0"], cwd=ROOT, env=environment, check=True)
    with serving(environment, python=python) as port, urlopen(f"http://127.0.0.1:{port}/health/ready") as reply:
        assert json.load(reply) == {"status": "ready", "version": __version__}
