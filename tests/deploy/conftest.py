"""The whole of `deploy/compose.yaml` without its containers: nginx, two servers, PgBouncer and PostgreSQL."""

import os
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path

import psycopg
import pytest

from tests.faults.conftest import Stage, once, serve, stage  # noqa: F401 (fixtures)
from tests.faults.machines import ROOT, Server, free_port, wait_until

DEPLOY = ROOT / "deploy"
PASSWORD = "a-password-for-this-test"


def needs(program: str) -> str:
    """Where the program is. Skips where it is not, unless DEPLOY_TESTS says that it is required."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None and os.environ.get("DEPLOY_TESTS") != "required":
        pytest.skip(f"{program} is not installed")
    assert found is not None, f"{program} is not installed"
    return found


@dataclass
class Stack:
    """All that runs. `through` makes a connection to the proxy."""

    stage: Stage
    servers: list[Server]
    through: partial[HTTPSConnection]


@pytest.fixture(scope="module")
def stack(stage: Stage) -> Iterator[Stack]:  # noqa: F811
    folder = Path(tempfile.mkdtemp(prefix="stack-"))
    folder.chmod(0o755)  # PgBouncer runs as another user
    with pgbouncer(stage, folder) as url:
        through_pgbouncer = {"DATABASE_URL": url, "DATABASE_POOLER": "on"}
        behind_proxy = {"TRUSTED_PROXIES": "127.0.0.1", "HTTPS_ONLY": "on"}
        servers = [Server(stage.environment | through_pgbouncer | behind_proxy) for _ in range(2)]
        with nginx(servers, folder) as through:
            yield Stack(stage, servers, through)
        for server in servers:
            server.stop()
    shutil.rmtree(folder)


@contextmanager
def pgbouncer(stage: Stage, folder: Path) -> Iterator[str]:  # noqa: F811
    """PgBouncer as it ships, before the stage's database, for a role as `deploy/role.sql` makes it."""
    program, database = needs("pgbouncer"), stage.database
    assert database is not None
    with database.connected() as owner:
        owner.execute(f"CREATE ROLE loyalty LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    with psycopg.connect(database.url, user="loyalty", autocommit=True) as role:
        role.execute((DEPLOY / "role.sql").read_text())
    port, users = free_port(), folder / "userlist.txt"
    users.write_text(f'"loyalty" "{PASSWORD}"\n')
    configuration = _written(
        DEPLOY / "pgbouncer.ini",
        folder / "pgbouncer.ini",
        {
            "host=postgres port=5432": f"host={Path(database.socket).parent} dbname=postgres",
            "listen_addr = *": "listen_addr = 127.0.0.1",
            "listen_port = 6432": f"listen_port = {port}\nunix_socket_dir =",
            "/tmp/userlist.txt": str(users),  # noqa: S108
        },
    )
    user = database.server.system_user if os.geteuid() == 0 else None
    process = subprocess.Popen([program, "-q", str(configuration)], user=user, stderr=subprocess.DEVNULL)
    url = f"postgres://loyalty:{PASSWORD}@127.0.0.1:{port}/loyalty"
    wait_until(partial(_answers, url))
    yield url
    process.terminate()
    process.wait(20)


@contextmanager
def nginx(servers: list[Server], folder: Path) -> Iterator[partial[HTTPSConnection]]:
    """nginx as it ships, before the servers, with a certificate of its own."""
    program, port = needs("nginx"), free_port()
    certificate, key = folder / "server.crt", folder / "server.key"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    configuration = _written(
        DEPLOY / "nginx.conf",
        folder / "nginx.conf",
        {
            "app1:8000": f"127.0.0.1:{servers[0].port}",
            "app2:8000": f"127.0.0.1:{servers[1].port}",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/certificates/": f"{folder}/",
        },
    )
    directives = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;"
    process = subprocess.Popen([program, "-c", str(configuration), "-g", directives], stderr=subprocess.DEVNULL)
    context = ssl.create_default_context(cafile=str(certificate))
    through = partial(HTTPSConnection, "localhost", port, timeout=15, context=context)
    wait_until(partial(_serves, through))
    yield through
    process.terminate()
    process.wait(20)


def _written(shipped: Path, path: Path, changes: dict[str, str]) -> Path:
    """The shipped file with the addresses of this machine; whatever is changed must stand in it once."""
    text = shipped.read_text()
    for before, after in changes.items():
        assert len(re.findall(re.escape(before), text)) >= 1, before
        text = text.replace(before, after)
    path.write_text(text)
    path.chmod(0o644)
    return path


def _answers(url: str) -> bool:
    with suppress(psycopg.Error), psycopg.connect(url, prepare_threshold=None) as session:
        return session.execute("SELECT 1").fetchone() == (1,)
    return False


def _serves(through: partial[HTTPSConnection]) -> bool:
    with suppress(OSError), closing(through()) as proxy:
        proxy.request("GET", "/health/ready")
        return proxy.getresponse().status == 200
    return False
