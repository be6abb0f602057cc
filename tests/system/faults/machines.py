"""The machines that a fault breaks: a PostgreSQL of its own, servers as they ship, and a wire between the two."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.postgresql import embedded_postgres

ROOT = Path(__file__).parent.parent.parent.parent
COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"  # a simple query, as psycopg ends a transaction


class Database:
    """A PostgreSQL that may be stopped and started, with a folder that `folder` names or a new one."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="pg-"))
        self.server = embedded_postgres.get_server(self.folder / "data", cleanup_mode="delete")
        self.url = self.server.get_uri()
        with self.connected() as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")

    def configure(self, settings: dict[str, str]) -> None:
        """Sets what only a new start brings into force."""
        with self.connected() as connection:
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self._control("-m", "fast", "-l", str(self.folder / "data" / "log"), "restart")

    @property
    def socket(self) -> str:
        return f"{self.server.get_postmaster_info().socket_dir}/.s.PGSQL.{self.server.get_postmaster_info().port}"

    @property
    def process_id(self) -> int:
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def connected(self, **options: Any) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True, **options)

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.connected() as connection:
            return connection.execute(sql, parameters).fetchall()

    def crash(self) -> None:
        """Stops it as a power cut would, if it still runs, and starts it again."""
        self._control("-m", "immediate", "-l", str(self.folder / "data" / "log"), "restart")

    def _control(self, *words: str) -> None:
        embedded_postgres._commands.pg_ctl(
            ["-w", *words], pgdata=self.folder / "data", user=self.server.system_user, timeout=60
        )

    def terminate_backends(self) -> int:
        """Ends each session but this one, and returns how many there were."""
        [(count,)] = self.rows(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return int(count)

    def remove(self) -> None:
        self.server.cleanup()
        with suppress(OSError):
            self.folder.rmdir()


class Server:
    """The server that ships, on a port of its own."""

    def __init__(self, environment: dict[str, str], *, workers: int = 2, port: int = 0) -> None:
        self.port = port or free_port()
        self.environment = environment | {"GRANIAN_WORKERS": str(workers), "GRANIAN_RESPAWN_INTERVAL": "0.5"}
        self.start()

    def start(self) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (read when the server has ended)
        words = [sys.executable, "-m", "config.serve", "--port", str(self.port)]
        self.process = subprocess.Popen(words, cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log)
        try:
            wait_until(lambda: len(self.workers) == int(self.environment["GRANIAN_WORKERS"]) and self.is_ready())
        except AssertionError:
            self.kill()  # nobody else knows of it yet
            raise

    @property
    def workers(self) -> list[psutil.Process]:
        """The worker processes; the first to have started comes first."""
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children()
            return sorted((each for each in children if "resource_tracker" not in str(each.cmdline())), key=_started)
        return []

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=15)

    def is_ready(self) -> bool:
        address = f"http://127.0.0.1:{self.port}/health/ready"
        with suppress(OSError), urllib.request.urlopen(address, timeout=3) as reply:
            return bool(reply.status == 200)
        return False

    def stop(self) -> None:
        """Asks it to stop and waits until it has."""
        self.process.terminate()
        self.process.wait(60)

    def kill(self) -> None:
        """Ends it and its workers at once, wherever they are."""
        for process in (psutil.Process(self.process.pid), *self.workers):
            process.kill()
        self.process.wait(10)


def _started(process: psutil.Process) -> float:
    return float(process.create_time())


class Wire:
    """A TCP port that leads to the database's socket, and that can be cut at a COMMIT."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.cut = ""  # "before" the database hears of the COMMIT, or "after", when its answer is lost
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                database = socket.socket(socket.AF_UNIX)
                database.connect(self.upstream)
                for way in (self._ask, self._answer):
                    threading.Thread(target=way, args=(client, database), daemon=True).start()

    def _ask(self, client: socket.socket, database: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                if COMMIT in data and self.cut:
                    self.cuts += 1
                    if self.cut == "after":
                        _shut(client)  # first: the answer must find nobody
                        database.sendall(data)
                        time.sleep(0.2)
                    break
                database.sendall(data)
        _shut(client, database)

    def _answer(self, client: socket.socket, database: socket.socket) -> None:
        with suppress(OSError):
            while data := database.recv(65_536):
                client.sendall(data)
        _shut(client)


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Any, *, seconds: float = 60) -> float:
    """Waits for the condition, and returns how long that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it took too long"
        time.sleep(0.05)
    return time.monotonic() - started


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A folder on a disk of its own; who may not mount one gets an OSError."""
    folder = Path(tempfile.mkdtemp(prefix="disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        folder.rmdir()
        raise OSError("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Nobody may write to the file meanwhile, not even root, whom a file's mode does not hold."""
    forbid, allow = (["chattr", "+i"], ["chattr", "-i"]) if os.geteuid() == 0 else (["chmod", "u-w"], ["chmod", "u+w"])
    done = subprocess.run([*forbid, str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no file can be made read-only here")
    try:
        yield
    finally:
        subprocess.run([*allow, str(path)], check=True)


def environment_of(url: str) -> dict[str, str]:
    return os.environ | {"DATABASE_URL": url, "LOG_FORMAT": "json"}
