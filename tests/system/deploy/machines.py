"""Runs the parts of `deploy/` around the servers on this machine: the database role, PgBouncer and nginx."""

import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import psycopg

from tests.postgresql import run_script
from tests.system.faults.machines import ROOT, Database, Server, free_port, wait_until

DEPLOY = ROOT / "deploy"
PASSWORD = "a-password-for-this-test"
# 127.0.0.1 is not an allowed host, and a few wrong passwords exceed the limit.
BEHIND_PROXY = {
    "TRUSTED_PROXIES": "127.0.0.1",
    "FORWARDED_FOR_HEADER": "ForwardedFor",
    "FORWARDED_PROTO_HEADER": "ForwardedProto",
    "HTTPS_ONLY": "on",
    "ALLOWED_HOSTS": "localhost",
    "API_FAILED_LOGINS_PER_MINUTE": "5",
}


def place_of(program: str) -> str | None:
    """The path of the program, or None if it is not installed."""
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")


def create_role(url: str) -> None:
    """Creates the role and the database of `deploy/role.sql`; both are called loyalty."""
    run_script(url, DEPLOY / "role.sql", DATABASE_PASSWORD=PASSWORD)


def drop_role(url: str) -> None:
    """Drops the role and the database that `create_role` created."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP DATABASE loyalty WITH (FORCE)")
        connection.execute("DROP ROLE loyalty")


class UnitServer(Server):
    """A server that starts and stops with the lines of `deploy/loyalty@.service`, as systemd runs them.

    `runtime` replaces /run/loyalty, where the proxy sees which server is about to stop.
    """

    def __init__(self, environment: dict[str, str], runtime: Path) -> None:
        self.runtime, self.unit = runtime, (DEPLOY / "loyalty@.service").read_text()
        super().__init__(environment)

    def start(self) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (read after the server has ended)
        [(_, words)] = self._lines("ExecStart")
        self.process = subprocess.Popen(words, cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log)
        self._run("ExecStartPost")
        wait_until(self.is_ready)

    def stop(self) -> None:
        self._run("ExecStop")
        super().stop()

    def _run(self, name: str) -> None:
        for may_fail, words in self._lines(name):
            subprocess.run(words, cwd=ROOT, env=self.environment, check=not may_fail)

    def _lines(self, name: str) -> list[tuple[bool, list[str]]]:
        """Each command of that name, and whether systemd ignores its failure."""
        lines = re.findall(rf"^{name}=(-?)(.+)", self.unit, re.MULTILINE)
        assert lines, name
        places = {"/srv/loyalty/.venv/bin/python": sys.executable, "/run/loyalty": str(self.runtime)}
        places |= {"%i": str(self.port)}
        return [(bool(dash), shlex.split(replaced(line, places))) for dash, line in lines]


@contextmanager
def stacked(
    database: Database, environment: dict[str, str]
) -> Iterator[tuple[list[UnitServer], partial[HTTPSConnection]]]:
    """Runs two servers with PgBouncer in front of the database, and nginx in front of the servers.

    Yields the servers, and a function that opens a connection to nginx.
    """
    folder = Path(tempfile.mkdtemp(prefix="stack-"))
    folder.chmod(0o755)  # PgBouncer and the workers of nginx run as other users
    with ExitStack() as parts:
        parts.callback(shutil.rmtree, folder)
        pooled = {"DATABASE_URL": parts.enter_context(pgbouncer(database, folder)), "DATABASE_POOLER": "on"}
        servers: list[UnitServer] = []
        for _ in range(2):
            servers.append(UnitServer(environment | BEHIND_PROXY | pooled, folder))
            parts.callback(servers[-1].kill)
        yield servers, parts.enter_context(nginx(servers, folder))


@contextmanager
def pgbouncer(database: Database, folder: Path) -> Iterator[str]:
    """Runs PgBouncer in front of the database that `create_role` created; yields the database's URL through it."""
    program = place_of("pgbouncer")
    assert program, "pgbouncer is not installed"
    port, users = free_port(), folder / "userlist.txt"
    users.write_text(f'"loyalty" "{PASSWORD}"\n')
    configuration = _write_adapted(
        DEPLOY / "pgbouncer.ini",
        folder / "pgbouncer.ini",
        {
            "host=postgres port=5432": f"host={Path(database.socket).parent}",
            "listen_addr = *": "listen_addr = 127.0.0.1",
            "listen_port = 6432": f"listen_port = {port}\nunix_socket_dir =",
            "/tmp/userlist.txt": str(users),  # noqa: S108
        },
    )
    user = database.server.system_user if os.geteuid() == 0 else None
    url = f"postgres://loyalty:{PASSWORD}@127.0.0.1:{port}/loyalty"
    with running([program, "-q", str(configuration)], user=user):
        wait_until(partial(_answers, url))
        yield url


@contextmanager
def nginx(servers: list[UnitServer], folder: Path) -> Iterator[partial[HTTPSConnection]]:
    """Runs nginx in front of the servers with a new certificate; yields a function that opens a connection to it."""
    program, port = place_of("nginx"), free_port()
    assert program, "nginx is not installed"
    certificate = make_certificate(folder)
    configuration = _write_adapted(
        DEPLOY / "nginx.conf",
        folder / "nginx.conf",
        {
            "app1:8000": f"127.0.0.1:{servers[0].port}",
            "app2:8000": f"127.0.0.1:{servers[1].port}",
            "/run/loyalty/app1": f"{folder}/{servers[0].port}",
            "/run/loyalty/app2": f"{folder}/{servers[1].port}",
            "/var/log/nginx/": f"{folder}/",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/certificates/": f"{folder}/",
        },
    )
    directives = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;"
    context = ssl.create_default_context(cafile=str(certificate))
    through = partial(HTTPSConnection, "localhost", port, timeout=15, context=context)
    with running([program, "-c", str(configuration), "-g", directives]):
        wait_until(partial(_serves, through))
        yield through


def make_certificate(folder: Path) -> Path:
    """Writes `server.crt` and `server.key` for localhost into the folder; returns the certificate's path."""
    certificate, key = folder / "server.crt", folder / "server.key"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    return certificate


@contextmanager
def running(words: list[str], **options: Any) -> Iterator[None]:
    """Runs the program during the block."""
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, **options)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def _write_adapted(shipped: Path, path: Path, changes: dict[str, str]) -> Path:
    """Writes the shipped file with the addresses of this machine to `path`; each replaced text must occur in it."""
    text = shipped.read_text()
    assert all(before in text for before in changes), changes
    path.write_text(replaced(text, changes))
    path.chmod(0o644)
    return path


def replaced(text: str, changes: dict[str, str]) -> str:
    for before, after in changes.items():
        text = text.replace(before, after)
    return text


def _answers(url: str) -> bool:
    with suppress(psycopg.Error), psycopg.connect(url, prepare_threshold=None) as session:
        return session.execute("SELECT 1").fetchone() == (1,)
    return False


def _serves(through: partial[HTTPSConnection]) -> bool:
    with suppress(OSError), closing(through()) as proxy:
        proxy.request("GET", "/health/ready")
        return proxy.getresponse().status == 200
    return False
