"""The machines that are measured: a PostgreSQL that survives a power cut, the server that ships, pgbench and wrk."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.ledgers import TILLS, authorization, customers_of, environment_of
from loyalty.fields import new_row_id
from tests.postgresql import PROGRAMS
from tests.system.faults.machines import Server

LOAD = Path(__file__).parent / "load.lua"

# Kinds of calls after which a redemption is no longer new.
USES_UP = {"reverse", "keyed", "plain"}

# As an operator of this machine would set them; commits wait for the disk.
POSTGRESQL = {
    "fsync": "on",
    "shared_buffers": "4GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "maintenance_work_mem": "1GB",
    "max_connections": "300",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: calls per second, milliseconds of half and of 99 of 100 calls, and milliseconds of CPU per call."""

    per_second: float
    p50: float
    p99: float
    cpu: dict[str, float] = field(default_factory=dict)


class Ledger:
    """A ledger of so many redemptions, and a server on it, or what answers for it at the address."""

    def __init__(self, url: str, rows: int, *, address: str = "") -> None:
        self.url, self.rows, self.address = url, rows, address
        self.next_call = self.next_run = 0
        self.processes: dict[str, int] = {}

    def serve(self) -> None:
        settings = {"DJANGO_SETTINGS_MODULE": "benchmarks.settings", "GRANIAN_LOG_ENABLED": "false"}
        self.server = Server(environment_of(self.url) | settings)
        self.address = f"http://127.0.0.1:{self.server.port}"
        self.processes["server"] = self.server.process.pid

    def ask(self, kind: str, *, clients: int, seconds: float) -> Measured:
        """Has wrk send calls of one kind, each of another redemption."""
        words = [
            "wrk",
            "--threads",
            "1",
            "--connections",
            str(clients),
            "--duration",
            f"{seconds}s",
            "--timeout",
            "10s",
        ]
        words += ["--script", str(LOAD), self.address, "--", kind, str(self.next_call)]
        words += [str(self.rows), str(customers_of(self.rows))]
        words += [authorization(f"till.{number}") for number in range(1, TILLS + 1)]
        said, cpu = self._measured(words)
        told = json.loads(said.strip().splitlines()[-1])
        if kind in USES_UP:
            self.next_call = int(told["next_call"])
        answered = told["requests"]
        wrong = answered - told["not_2xx"] if kind == "refused" else told["not_2xx"]
        if not answered or wrong or told["broken"]:
            raise RuntimeError(f"{kind} on {self.url}: {told}")
        return _per_call(answered, told["seconds"], told["p50"], told["p99"], cpu)

    def pgbench(self, script: Path, *, clients: int, seconds: int) -> Measured:
        """Has pgbench run the script, its statements prepared."""
        words = [str(PROGRAMS / "pgbench"), "--no-vacuum", "--protocol", "prepared", "--client", str(clients)]
        words += ["--time", str(seconds), "--file", str(script)]
        for name, value in {"run": 0, "clients": clients, "first": self.next_run, "new_id": new_row_id()}.items():
            words += ["--define", f"{name}={value}"]
        words.append(self.url)
        with tempfile.TemporaryDirectory() as folder:
            words[1:1] = ["--log", "--log-prefix", f"{folder}/log"]
            _, cpu = self._measured(words)
            lines = [line for log in Path(folder).iterdir() for line in log.read_text().splitlines()]
        self.next_run += len(lines) + clients
        return per_call([int(line.split()[2]) / 1e6 for line in lines], seconds, cpu)

    def _measured(self, words: list[str]) -> tuple[str, dict[str, float]]:
        """What the load said, and the seconds of CPU that it and each of the processes used meanwhile."""
        before = self._used()
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout, {who: seconds - before[who] for who, seconds in self._used().items()}

    def _used(self) -> dict[str, float]:
        used = {who: _used_by(psutil.Process(process_id)) for who, process_id in self.processes.items()}
        return used | {"load": sum(psutil.Process().cpu_times()[2:4])}


def per_call(times: Sequence[float], seconds: float, cpu: dict[str, float]) -> Measured:
    """A run of so many seconds, of which each call took one of `times`; `cpu` is seconds, of all calls together."""
    times, calls = sorted(times), len(times)
    return _per_call(calls, seconds, 1000 * times[calls // 2], 1000 * times[calls * 99 // 100], cpu)


def _per_call(calls: int, seconds: float, p50: float, p99: float, cpu: dict[str, float]) -> Measured:
    return Measured(calls / seconds, p50, p99, {who: 1000 * used / calls for who, used in cpu.items()})


def _used_by(process: psutil.Process) -> float:
    """Its seconds of CPU and those of its children, the ones that have ended too."""
    seconds = 0.0
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # then its parent, asked last, has its seconds
            seconds += sum(child.cpu_times()[:4])
    return seconds + sum(process.cpu_times()[:4])
