"""The units start existing programs with the fewest rights, and each part keeps its address."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.system.deploy.machines import DEPLOY
from tests.system.faults.machines import ROOT

# The backup runs on the machine of the database, with programs that are not everywhere.
UNITS = sorted(path.name for path in DEPLOY.glob("*.service") if "backup" not in path.name)
PYTHON = "/srv/loyalty/.venv/bin/python"


def _verified(name: str, folder: Path) -> Path:
    """The unit with this machine's Python, in a folder of its own."""
    here = folder / name.replace("@", "@8001")
    here.write_text((DEPLOY / name).read_text().replace(f"{PYTHON} ", f"{sys.executable} "))
    return here


@pytest.mark.parametrize("name", UNITS)
def test_unit_starts_existing_programs(name: str) -> None:
    text = (DEPLOY / name).read_text()
    for module in re.findall(r"(?:-m |manage\.py |/bin/sh )(\S+)", text):
        files = (f"{module.replace('.', '/')}.py", f"*/management/commands/{module}.py", module)
        assert module == "migrate" or any(found for file in files for found in ROOT.glob(file)), module
    for program in re.findall(r"^Exec\w+=-?(/bin/\S+)", text, re.MULTILINE):
        assert shutil.which(program), program


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit_and_its_hardening(name: str, tmp_path: Path) -> None:
    here = _verified(name, tmp_path)
    checked = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(here)]
    judged = subprocess.run(words, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_server_and_migration_do_not_run_as_the_user_who_writes_the_anchor() -> None:
    users = {name: re.findall(r"^User=(\S+)", (DEPLOY / name).read_text(), re.MULTILINE) for name in UNITS}
    assert users["loyalty@.service"] == users["loyalty-migrate.service"] == ["loyalty"]
    created = re.findall(r"^u (\S+)", (DEPLOY / "sysusers.conf").read_text(), re.MULTILINE)
    assert users["loyalty-worker.service"] == ["loyalty-worker"]
    assert {"loyalty", "loyalty-worker"} == set(created)


def test_migrations_and_the_worker_bypass_pgbouncer_and_servers_do_not() -> None:
    reads = {name for name in UNITS if "EnvironmentFile=/etc/loyalty/worker.env" in (DEPLOY / name).read_text()}
    assert {"loyalty-migrate.service", "loyalty-worker.service"} <= reads
    assert "loyalty@.service" not in reads


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_systemd_creates_the_users(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    words = ["systemd-sysusers", f"--root={tmp_path}", str(DEPLOY / "sysusers.conf")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, "not a valid" in done.stderr) == (0, False), done.stderr
    created = (tmp_path / "etc" / "passwd").read_text()
    assert "loyalty:" in created
    assert "loyalty-worker:" in created


def test_each_part_that_another_one_connects_to_keeps_its_address() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    composed = yaml.safe_load(text)
    dialled = set(re.findall(r"@(\w+):\d+/", text))
    dialled |= set(re.findall(r"\bhost=(\w+)", (DEPLOY / "pgbouncer.ini").read_text()))
    dialled |= set(re.findall(r"\bserver (\w+):\d+", (DEPLOY / "nginx.conf").read_text()))
    addresses = {name: part.get("networks", {}).get("default", {}) for name, part in composed["services"].items()}
    kept = {name for name, network in addresses.items() if "ipv4_address" in network}
    assert dialled == {"app1", "app2", "pgbouncer", "postgres"} <= kept


def test_rolling_restarts_one_server_after_the_other(tmp_path: Path) -> None:
    log = tmp_path / "log"
    compose = tmp_path / "compose"
    compose.write_text(f'#!/bin/sh\nshift 2\necho "$*" >>{log}\n')
    compose.chmod(0o755)
    subprocess.run([str(DEPLOY / "rolling")], env=os.environ | {"COMPOSE": str(compose)}, check=True)
    assert log.read_text().splitlines() == [
        line
        for server in ("app1", "app2")
        for line in (
            f"exec -T proxy touch /run/loyalty/{server}",
            f"up --detach --no-deps --force-recreate {server}",
            f"exec -T {server} python -m config.ready 8000",
            f"exec -T proxy rm /run/loyalty/{server}",
        )
    ]
