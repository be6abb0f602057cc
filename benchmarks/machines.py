"""The measured machines: a durable PostgreSQL, the server as it ships, pgbench and wrk."""

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

# Kinds of calls that use up a redemption.
USES_UP = {"reverse", "keyed", "plain"}

# Settings as in production on this machine; commits wait for the disk.
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
    """One run: calls per second, the 50th and 99th percentile in milliseconds, and milliseconds of CPU per call."""

    per_second: float
    p50: float
    p99: float
    cpu: dict[str, float] = field(default_factory=dict)


class Ledger:
    """A ledger with `rows` redemptions, and its server, or the proxy at `address`."""

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
        """Lets wrk send calls of one kind, each for another redemption."""
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
        output, cpu = self._measured(words)
        summary = json.loads(output.strip().splitlines()[-1])
        if kind in USES_UP:
            self.next_call = int(summary["next_call"])
        answered = summary["requests"]
        wrong = answered - summary["not_2xx"] if kind == "refused" else summary["not_2xx"]
        if not answered or wrong or summary["broken"]:
            raise RuntimeError(f"{kind} on {self.url}: {summary}")
        return _per_call(answered, summary["seconds"], summary["p50"], summary["p99"], cpu)

    def pgbench(self, script: Path, *, clients: int, seconds: int) -> Measured:
        """Lets pgbench run the script with prepared statements."""
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
        """Runs the load; returns its output, and the CPU seconds that it and each process used meanwhile."""
        before = self._used()
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout, {who: seconds - before[who] for who, seconds in self._used().items()}

    def _used(self) -> dict[str, float]:
        used = {who: _used_by(psutil.Process(process_id)) for who, process_id in self.processes.items()}
        return used | {"load": sum(psutil.Process().cpu_times()[2:4])}


def per_call(times: Sequence[float], seconds: float, cpu: dict[str, float]) -> Measured:
    """The result of a run: `times` are the seconds of each call, `cpu` the CPU seconds of all calls together."""
    times, calls = sorted(times), len(times)
    return _per_call(calls, seconds, 1000 * times[calls // 2], 1000 * times[calls * 99 // 100], cpu)


def _per_call(calls: int, seconds: float, p50: float, p99: float, cpu: dict[str, float]) -> Measured:
    return Measured(calls / seconds, p50, p99, {who: 1000 * used / calls for who, used in cpu.items()})


def _used_by(process: psutil.Process) -> float:
    """The CPU seconds of the process and its children, including those that have ended."""
    seconds = 0.0
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # then its parent, read last, includes its seconds
            seconds += sum(child.cpu_times()[:4])
    return seconds + sum(process.cpu_times()[:4])
