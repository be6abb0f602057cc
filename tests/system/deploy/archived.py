"""A PostgreSQL of the system's packages whose log pgBackRest archives, with the files of `deploy/`."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest

from tests.system.deploy.machines import DEPLOY, place_of
from tests.system.faults.machines import free_port

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))


class ArchivedDatabase:
    """The live cluster and the repository in one folder. For root they run as the user postgres."""

    def __init__(self) -> None:
        if not BINARIES or place_of("pgbackrest") is None:
            pytest.skip("PostgreSQL or pgBackRest is not installed: apt-get install postgresql pgbackrest")
        self.binaries = BINARIES[-1].parent
        self.user = "postgres" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="archived-"))
        if self.user:
            shutil.chown(self.folder, self.user)
        self.live, self.port = self.folder / "live", free_port()
        self.environment = os.environ | {
            "PATH": f"{self.binaries}:{os.environ['PATH']}",
            "PGHOST": str(self.folder),
            "PGPORT": str(self.port),
            "PGBACKREST_CONFIG": str(self.folder / "pgbackrest.conf"),
            "PGBACKREST_LOG_PATH": str(self.folder),
            "PGBACKREST_LOCK_PATH": str(self.folder),
        }
        self._write_configuration()
        self.run("initdb", "--auth=trust", "--no-sync", "--username=postgres", str(self.live))
        self.start(self.live, self.port)

    def _write_configuration(self) -> None:
        text = (DEPLOY / "pgbackrest.conf").read_text()
        for before, after in {
            "repo1-path=/var/lib/pgbackrest": f"repo1-path={self.folder / 'repository'}",
            "pg1-path=/var/lib/postgresql/15/main": f"pg1-path={self.live}\npg1-port={self.port}"
            f"\npg1-socket-path={self.folder}\npg1-user=postgres",
        }.items():
            assert before in text
            text = text.replace(before, after)
        (self.folder / "pgbackrest.conf").write_text(text)

    def run(self, *words: str, **environment: str) -> str:
        done = subprocess.run(
            words,
            user=self.user,
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, data: Path, port: int) -> None:
        """Starts the cluster with the archive's settings of `deploy/`."""
        shutil.copy(DEPLOY / "archive.conf", self.folder / "archive.conf")
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c port={port} -c fsync=off"
        included = f"include '{self.folder / 'archive.conf'}'\n"
        settings = data / "postgresql.conf"
        if included not in settings.read_text():
            settings.write_text(settings.read_text() + included)
        # PostgreSQL keeps the output open, so it must not be a pipe of this process.
        self.run("pg_ctl", "-w", "-t", "120", "-D", str(data), "-l", str(data) + ".log", "-o", options, "start")

    def stop(self, data: Path) -> None:
        self.run("pg_ctl", "-w", "-m", "fast", "-D", str(data), "stop")

    def restore(self, data: Path, *options: str) -> None:
        self.run("pgbackrest", "--stanza=loyalty", f"--pg1-path={data}", *options, "restore")

    def url(self, port: int, name: str = "loyalty", user: str = "loyalty") -> str:
        return f"postgres://{user}:@/{name}?host={self.folder}&port={port}"

    def rows(self, sql: str, *parameters: object, port: int = 0) -> list[tuple[object, ...]]:
        """The rows of the statement as the superuser, in the live database or the one at the port."""
        with psycopg.connect(self.url(port or self.port, user="postgres"), autocommit=True) as session:
            done = session.execute(sql, parameters)
            return done.fetchall() if done.description else []

    def remove(self) -> None:
        for data in self.folder.glob("*/postmaster.pid"):
            self.run("pg_ctl", "-w", "-m", "immediate", "-D", str(data.parent), "stop")
        shutil.rmtree(self.folder)
