"""The machines that a fault breaks: a private PostgreSQL, servers as they ship, and a TCP proxy between them."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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
    """A PostgreSQL server that tests can stop and start, in `folder` or in a new folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="pg-"))
        self.server = embedded_postgres.get_server(self.folder / "data", cleanup_mode="delete")
        self.url = self.server.get_uri()
        with self.connected() as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")

    def configure(self, settings: dict[str, str]) -> None:
        """Changes settings that require a restart, and restarts."""
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
        """Stops the server as a power cut would, if it is still running, and starts it again."""
        self._control("-m", "immediate", "-l", str(self.folder / "data" / "log"), "restart")

    def _control(self, *words: str) -> None:
        embedded_postgres._commands.pg_ctl(
            ["-w", *words], pgdata=self.folder / "data", user=self.server.system_user, timeout=60
        )

    def terminate_backends(self) -> int:
        """Ends every session except this one, and returns how many there were."""
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
    """The server as it ships, on its own port."""

    def __init__(self, environment: dict[str, str], *, workers: int = 2, port: int = 0) -> None:
        self.port = port or free_port()
        self.environment = environment | {"GRANIAN_WORKERS": str(workers), "GRANIAN_RESPAWN_INTERVAL": "0.5"}
        self.start()

    def start(self) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (read after the server has ended)
        words = [sys.executable, "-m", "config.serve", "--port", str(self.port)]
        self.process = subprocess.Popen(words, cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log)
        try:
            wait_until(lambda: len(self.workers) == int(self.environment["GRANIAN_WORKERS"]) and self.is_ready())
        except AssertionError:
            self.kill()  # the caller has no reference to it yet
            raise

    @property
    def workers(self) -> list[psutil.Process]:
        """The worker processes, in the order in which they started."""
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
        """Asks the server to stop and waits until it has."""
        self.process.terminate()
        self.process.wait(60)

    def kill(self) -> None:
        """Kills the server and its workers immediately."""
        for process in (psutil.Process(self.process.pid), *self.workers):
            process.kill()
        self.process.wait(10)


def _started(process: psutil.Process) -> float:
    return float(process.create_time())


class Wire:
    """A TCP proxy in front of the database's socket that can cut connections at a COMMIT."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.cut = ""  # "before" the database receives the COMMIT, or "after" it, so that only the answer is lost
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
                for forward in (self._forward_requests, self._forward_answers):
                    threading.Thread(target=forward, args=(client, database), daemon=True).start()

    def _forward_requests(self, client: socket.socket, database: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                if COMMIT in data and self.cut:
                    self.cuts += 1
                    if self.cut == "after":
                        _shut(client)  # first, so that the answer is lost
                        database.sendall(data)
                        time.sleep(0.2)
                    break
                database.sendall(data)
        _shut(client, database)

    def _forward_answers(self, client: socket.socket, database: socket.socket) -> None:
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


@contextmanager
def silent_address() -> Iterator[int]:
    """The port of an address that answers no attempt to connect, as a machine that is gone: its queue is full."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


def wait_until(condition: Any, *, seconds: float = 60) -> float:
    """Waits until the condition is true, and returns how many seconds that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it took too long"
        time.sleep(0.05)
    return time.monotonic() - started


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Mounts a small disk and yields its folder; raises OSError if the user may not mount."""
    folder = Path(tempfile.mkdtemp(prefix="disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        folder.rmdir()
        raise OSError("a disk cannot be mounted on this machine")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Makes the file read-only during the block, even for root, who can ignore a file's mode."""
    forbid, allow = (["chattr", "+i"], ["chattr", "-i"]) if os.geteuid() == 0 else (["chmod", "u-w"], ["chmod", "u+w"])
    done = subprocess.run([*forbid, str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a file cannot be made read-only on this machine")
    try:
        yield
    finally:
        subprocess.run([*allow, str(path)], check=True)


def environment_of(url: str) -> dict[str, str]:
    return os.environ | {"DATABASE_URL": url, "LOG_FORMAT": "json"}
