"""Three nodes with the files of `deploy/ha`, each in a network namespace of this machine with its own address."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.system.deploy.archived import BINARIES
from tests.system.deploy.machines import DEPLOY, PASSWORD, place_of, replaced
from tests.system.faults.machines import wait_until

PACKAGES = "postgresql patroni etcd-server python3-etcd pgbouncer iproute2"
SUBNET = "10.231.77"
NAMES = ("pg1", "pg2", "pg3")
USERS = {
    "PATRONI_SUPERUSER_USERNAME": "postgres",
    "PATRONI_SUPERUSER_PASSWORD": "a-password-of-the-superuser",
    "PATRONI_REPLICATION_USERNAME": "replicator",
    "PATRONI_REPLICATION_PASSWORD": "a-password-of-the-standbys",
}


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True)


class Node:
    """A machine of the cluster: a namespace, etcd, Patroni with its PostgreSQL, and PgBouncer."""

    def __init__(self, name: str, folder: Path, tag: int) -> None:
        self.name, self.folder = name, folder / name
        self.address = f"{SUBNET}.{10 + NAMES.index(name)}"
        self.namespace, self.wire = f"{name}-{tag}", f"v{name}-{tag}"[:15]
        self.processes: list[psutil.Popen] = []
        self.folder.mkdir()
        shutil.chown(self.folder, "postgres")

    def connect_to(self, bridge: str) -> None:
        """Creates the namespace, with its own address and host names, on the bridge."""
        _ip("netns", "add", self.namespace)
        _ip("link", "add", self.wire, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        _ip("link", "set", self.wire, "master", bridge, "up")
        for words in (["addr", "add", f"{self.address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            _ip("-netns", self.namespace, *words)
        _ip("-netns", self.namespace, "link", "set", "lo", "up")
        hosts = Path("/etc/netns") / self.namespace / "hosts"
        hosts.parent.mkdir(parents=True)
        lines = [f"{SUBNET}.{10 + number} {name}" for number, name in enumerate(NAMES)]
        hosts.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))

    def start(self) -> None:
        """Starts etcd and Patroni, as the units of Debian do."""
        text = replaced((DEPLOY / "ha" / "etcd.env").read_text(), self._places())
        lines = [line.partition("=") for line in text.splitlines() if not line.startswith("#")]
        self._run("etcd", environment={name: value for name, _, value in lines})
        configuration, callback = self.folder / "patroni.yml", self.folder / "follow-role"
        for path in (configuration, callback):
            path.write_text(replaced((DEPLOY / "ha" / path.name).read_text(), self._places()))
        callback.chmod(0o755)
        self._run("patroni", str(configuration), environment=USERS)
        self._run("pgbouncer", "-q", str(self._pooler()), environment={})

    def _pooler(self) -> Path:
        """Writes the configuration of PgBouncer, whose database is the node's own."""
        users = self.folder / "userlist.txt"
        users.write_text(f'"loyalty" "{PASSWORD}"\n')
        places = {
            "host=postgres port=5432": "host=127.0.0.1 port=5432",
            "listen_port = 6432": f"listen_port = 6432\nunix_socket_dir = {self.folder}",
            "/tmp/userlist.txt": str(users),  # noqa: S108
        }
        configuration = self.folder / "pgbouncer.ini"
        configuration.write_text(replaced((DEPLOY / "pgbouncer.ini").read_text(), places))
        return configuration

    def _places(self) -> dict[str, str]:
        return {
            "THIS_NODE": self.name,
            "/var/lib/etcd/loyalty": str(self.folder / "etcd"),
            "/var/lib/postgresql/15/loyalty": str(self.folder / "data"),
            "/usr/lib/postgresql/15/bin": str(BINARIES[-1].parent),
            "/var/lib/postgresql/patroni.pgpass": str(self.folder / "pgpass"),
            "/var/run/postgresql": str(self.folder),
            "/etc/patroni/follow-role": str(self.folder / "follow-role"),
        }

    def _run(self, *words: str, environment: dict[str, str]) -> None:
        with (self.folder / f"{Path(words[0]).name}.log").open("ab") as log:
            inside = ["ip", "netns", "exec", self.namespace, "runuser", "-u", "postgres", "--", *words]
            path = {"PATH": f"/usr/sbin:/usr/bin:{os.environ['PATH']}"}
            self.processes.append(psutil.Popen(inside, env=path | environment, stdout=log, stderr=log))

    def all_processes(self) -> list[psutil.Process]:
        """Every process of the namespace."""
        done = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True)
        found = []
        for word in done.stdout.split():
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(int(word)))
        return found

    def signal(self, number: signal.Signals) -> None:
        """Sends the signal to every process of the node."""
        for process in self.all_processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        while self.all_processes():
            self.signal(signal.SIGKILL)
            time.sleep(0.05)
        for process in self.processes:
            process.wait(10)
        self.processes.clear()

    def cut_off(self) -> None:
        """Takes the node from the network. Nobody is told."""
        _ip("link", "set", self.wire, "down")

    def connect_again(self) -> None:
        _ip("link", "set", self.wire, "up")

    def remove(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self.kill()
        _ip("link", "del", self.wire, check=False)
        _ip("netns", "del", self.namespace, check=False)
        shutil.rmtree(Path("/etc/netns") / self.namespace, ignore_errors=True)

    def asked(self, path: str) -> dict[str, Any] | None:
        """What Patroni answers with 200, or None."""
        with (
            suppress(OSError, ValueError),
            urllib.request.urlopen(f"http://{self.address}:8008{path}", timeout=1) as it,
        ):
            body: dict[str, Any] = json.load(it)
            return body
        return None


class Cluster:
    """Three nodes, and the database of `deploy/role.sql` on them.."""

    def __init__(self) -> None:
        for program in ("patroni", "etcd", "pgbouncer", "ip", "runuser"):
            if place_of(program) is None or not BINARIES:
                pytest.skip("needs three nodes' programs: apt-get install " + PACKAGES)
        if os.geteuid():
            pytest.skip("needs root, for the networks of three nodes")
        self.folder = Path(tempfile.mkdtemp(prefix="cluster-"))
        self.folder.chmod(0o755)
        self.bridge = f"br{os.getpid()}"
        self.nodes = [Node(name, self.folder, os.getpid()) for name in NAMES]
        try:
            _ip("link", "add", self.bridge, "type", "bridge")
            _ip("addr", "add", f"{SUBNET}.1/24", "dev", self.bridge)
            _ip("link", "set", self.bridge, "up")
            for node in self.nodes:
                node.connect_to(self.bridge)
                node.start()
            self.wait_until_whole()
        except BaseException:
            self.remove()
            raise

    def url(self, *, user: str, password: str, name: str, port: int = 5432) -> str:
        hosts = ",".join(f"{node.address}:{port}" for node in self.nodes)
        return f"postgres://{user}:{password}@{hosts}/{name}?target_session_attrs=read-write"

    @property
    def superuser_url(self) -> str:
        return self.url(user="postgres", password=USERS["PATRONI_SUPERUSER_PASSWORD"], name="postgres")

    @property
    def application_url(self) -> str:
        return self.url(user="loyalty", password=PASSWORD, name="loyalty")

    @property
    def pooled_url(self) -> str:
        return self.url(user="loyalty", password=PASSWORD, name="loyalty", port=6432)

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of the statement on the primary."""
        with psycopg.connect(self.application_url, connect_timeout=3) as session:
            return session.execute(sql, parameters).fetchall()

    def leader(self, other_than: Node | None = None) -> Node | None:
        """The node that says that it is the primary."""
        return next((node for node in self.nodes if node is not other_than and node.asked("/primary")), None)

    def is_whole(self) -> bool:
        """Whether there is one primary, and both others follow it, one of them synchronously."""
        leader = self.leader()
        state = leader.asked("/patroni") if leader is not None else None
        followers = [(each["state"], each["sync_state"]) for each in (state or {}).get("replication", ())]
        return sorted(followers) == [("streaming", "async"), ("streaming", "sync")]

    def wait_until_whole(self) -> float:
        return wait_until(self.is_whole, seconds=120)

    def switch_over(self) -> None:
        """Makes another node the primary, as an operator would."""
        node = self.leader()
        assert node is not None
        words = ["patronictl", "-c", str(node.folder / "patroni.yml"), "switchover", "loyalty", "--force"]
        inside = ["ip", "netns", "exec", node.namespace, *words]
        done = subprocess.run(inside, env=USERS | {"PATH": "/usr/sbin:/usr/bin:/bin"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def remove(self) -> None:
        for node in self.nodes:
            node.remove()
        _ip("link", "del", self.bridge, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
