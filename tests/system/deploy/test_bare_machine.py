"""An operator installs everything on a bare Debian with systemd, by the commands of the page as they are printed."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from django.db import connection

from tests.system.deploy.machines import place_of
from tests.system.faults.conftest import Stage, make_stage
from tests.system.faults.load import Load
from tests.system.faults.machines import ROOT, wait_until

SUITE = os.environ.get("DEBIAN_SUITE", "bookworm")  # trixie is Debian 13
PAGE = ROOT / "docs" / "deployment.md"
PORTS = (443, 5432, 6432, 8001, 8002)


class Machine:
    """A Debian with systemd in a container of its own, which shares the network of this machine."""

    def __init__(self, folder: Path) -> None:
        self.root, self.log = folder / "root", folder / "console"
        packages = "--include=systemd,systemd-sysv,dbus,ca-certificates"
        _run(["debootstrap", "--variant=minbase", packages, SUITE, str(self.root)])
        for name in ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/resolv.conf"):
            if Path(name).exists():
                shutil.copy(name, f"{self.root}{name}")

    def __enter__(self) -> "Machine":
        words = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--directory={self.root}", "--boot"]
        with self.log.open("w") as console:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        wait_until(lambda: psutil.Process(self.process.pid).children())
        [self.init] = psutil.Process(self.process.pid).children()
        # The last target waits for the servers, which may take longer.
        wait_until(lambda: "Reached target getty.target" in _plain(self.log.read_text(errors="replace")))
        return self

    def __exit__(self, *_: object) -> None:
        self.init.send_signal(signal.SIGRTMIN + 3)  # systemd halts
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.init.kill()
            self.process.wait(60)

    def run(self, script: str) -> str:
        """Runs the script as root would in a login shell, and returns its output."""
        words = ["nsenter", f"--target={self.init.pid}", "--mount", "--uts", "--ipc", "--pid", "--root", "--wd"]
        environment = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        environment |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}
        return _run([*words, "bash", "-euxc", script], environment)


def _plain(text: str) -> str:
    """The text without the colours of a console."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def _run(words: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"[-5000:]
    return done.stdout


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if connection.vendor != "postgresql":
        pytest.skip("runs once, with the tests on PostgreSQL")
    if os.geteuid() or place_of("debootstrap") is None or place_of("systemd-nspawn") is None:
        pytest.skip("needs root and the Debian packages debootstrap and systemd-container")
    if taken := {each.laddr.port for each in psutil.net_connections() if each.status == "LISTEN"} & {*PORTS}:
        pytest.skip(f"other programs listen on ports {taken}")
    folder = tmp_path_factory.mktemp("machine")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o011)  # users of the machine pass through
    with Machine(folder) as machine:
        yield machine
    shutil.rmtree(folder, ignore_errors=True)


def _blocks(heading: str) -> list[str]:
    """The commands that the page prints under the heading, one text for each block."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```(?:sh)?\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def _unpack(machine: Machine) -> None:
    """Copies the project into the folder that the page names."""
    [folder] = set(re.findall(r"^ln .* (loyalty-[\d.]+) /srv", PAGE.read_text(), re.MULTILINE))
    for name in _run(["git", "-C", str(ROOT), "ls-files"]).splitlines():
        if (ROOT / name).is_file():
            target = machine.root / "srv" / folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)


def _read_settings(machine: Machine) -> dict[str, str]:
    lines = "".join((machine.root / "etc/loyalty" / name).read_text() for name in ("loyalty.env", "worker.env"))
    return dict(line.split("=", 1) for line in lines.splitlines())


class Proxied(HTTPSConnection):
    """A connection to the proxy of the machine, under the host name of the page."""

    def __init__(self, machine: Machine) -> None:
        super().__init__("loyalty.example.com", timeout=15)
        certificate = machine.root / "etc/nginx/certificates/server.crt"
        self.trusting = ssl.create_default_context(cafile=str(certificate))

    def connect(self) -> None:
        address = socket.create_connection(("127.0.0.1", 443), self.timeout)
        self.sock = self.trusting.wrap_socket(address, server_hostname=self.host)


class AsRole:
    """Reads the machine's database as the application's role."""

    def __init__(self, url: str) -> None:
        self.url = url

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as session:
            return session.execute(sql.replace("%%", "%")).fetchall()


@pytest.fixture(scope="module")
def installed(machine: Machine) -> Machine:
    _unpack(machine)
    printed = machine.run("".join(_blocks("With systemd")))
    assert '{"status":"ready"' in printed
    return machine


@pytest.fixture(scope="module")
def loaded(installed: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A ledger for clients of the machine's servers, which share this machine's network."""
    settings = _read_settings(installed)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SECRET_KEY", "API_PEPPER"):
            patch.setenv(name, settings[name])
        url = settings["DATABASE_URL"]
        yield make_stage(url, AsRole(url), tmp_path_factory.mktemp("ledger"))  # type: ignore[arg-type]


@pytest.mark.deep
def test_first_org_is_made_by_the_commands_of_the_page(installed: Machine) -> None:
    folder = installed.root / "srv" / "ledger"
    folder.mkdir()
    rows = {
        "customers": "org_id,customer_id,status,mobile,email,external_id,card_number\n1,1,ACTIVE,,,,\n",
        "points": "org_id,program_id,customer_id,lot_ref,points,awarded_at,expires_at\n",
        "redemptions": "org_id,program_id,customer_id,redemption_id,points,redeemed_at,transaction_number,"
        "external_reference_number\n",
    }
    for name, text in rows.items():
        (folder / f"{name}.csv").write_text(text)
    [commands] = _blocks("The first org")
    asked = "createsuperuser --noinput --username admin --email admin@shop.example"
    commands = re.sub("^manage", "/srv/loyalty/deploy/manage", commands.replace("createsuperuser", asked), flags=re.M)
    assert "customers" in installed.run(commands)


@pytest.mark.deep
def test_only_the_worker_writes_the_anchor_and_servers_write_no_file(installed: Machine) -> None:
    installed.run("/srv/loyalty/deploy/manage seal_ledger; test -s /var/lib/loyalty-worker/ledger.anchor")
    writable = "find /srv/loyalty/ /etc/loyalty /var/lib/loyalty-worker -writable 2>/dev/null || true"
    assert installed.run(f"runuser -u loyalty -- sh -c '{writable}'") == ""
    seen = installed.run(
        "systemctl show --property=MainPID --value loyalty@8001 >/tmp/id; nsenter --target $(cat /tmp/id) --mount"
        " sh -c 'for f in /srv/loyalty/x /etc/x /var/x; do touch $f 2>/dev/null && echo $f; done; true'"
    )
    assert seen == ""


@pytest.mark.deep
def test_no_call_fails_during_rolling_restarts_by_the_page(installed: Machine, loaded: Stage) -> None:
    block = _blocks("Restarting without a failed call")[0]
    with ExitStack() as running:
        loads = []
        for is_keyed in (True, False):
            load = Load(
                [partial(Proxied, installed)],
                loaded.redemptions,
                name=f"roll-{is_keyed}-{time.time_ns()}",
                is_keyed=is_keyed,
            )
            loads.append(running.enter_context(load))
        for _ in range(5):
            installed.run(block)
    for load in loads:
        assert load.journal.refused_at == []
        assert load.journal.codes["200"] > 100


@pytest.mark.deep
def test_database_that_restarts_is_used_again_within_about_a_second(installed: Machine, loaded: Stage) -> None:
    with loaded.under_load("systemctl restart postgresql", through=partial(Proxied, installed)) as fault:
        started = time.monotonic()
        installed.run("systemctl restart postgresql")
        seconds = time.monotonic() - started
        fault.injected += 1
    assert fault.refused_seconds < seconds + 2


@pytest.mark.deep
def test_proxy_log_is_rotated_by_the_package_of_nginx(installed: Machine) -> None:
    log = installed.root / "var/log/nginx/access.log"
    last = json.loads(log.read_text().splitlines()[-1])
    assert {"request_id", "client_address", "status", "upstream_seconds"} <= last.keys()
    installed.run("logrotate --force /etc/logrotate.d/nginx")
    assert '{"status":"ready"' in installed.run("curl --silent --insecure https://127.0.0.1/health/ready")
    wait_until(lambda: log.stat().st_size > 0, seconds=10)
    assert log.with_name("access.log.1").exists()


@pytest.mark.deep
def test_everything_starts_again_after_the_machine_restarts(installed: Machine) -> None:
    ask = "systemctl is-active loyalty@8001 loyalty@8002 loyalty-worker || true"
    installed.__exit__()
    installed.__enter__()
    wait_until(lambda: _is_ready_everywhere(installed), seconds=180)
    # A server that is ready is "activating" until its ExecStartPost has ended.
    wait_until(lambda: installed.run(ask).split() == ["active"] * 3, seconds=60)


def _is_ready_everywhere(machine: Machine) -> bool:
    ask = "curl --silent --output /dev/null --write-out '%{http_code} ' --insecure"
    addresses = ("https://127.0.0.1", "http://127.0.0.1:8001", "http://127.0.0.1:8002")
    script = "; ".join(f"{ask} {address}/health/ready || true" for address in addresses)
    return machine.run(script).split() == ["200"] * 3
