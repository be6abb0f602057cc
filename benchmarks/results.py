"""Writes the results to RESULTS.md, with the machine and the commit."""

import os
import platform
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.machines import Ledger, Measured

FILE = Path(__file__).parent / "RESULTS.md"
WORDS = {
    "pgbench": "pgbench with the statements of a reversal (a)",
    "constant": "a DRF view that answers a constant (b)",
    "plain": "a reversal in plain ORM and DRF",
    "reverse": "reversal (c)",
    "keyed": "reversal with a key (d)",
    "refused": "refusal (e)",
    "redeem": "redemption (f)",
}
ON_SQLITE = {
    "sqlite3": "the `sqlite3` module with the statements of a reversal",
    "application on SQLite": "the WSGI application, called in one thread",
    "server on SQLite": "the server as it ships",
}
TOGETHER = {
    "one server": "one server, connected directly to PostgreSQL",
    "two servers": "two servers behind nginx with TLS, through PgBouncer",
    "two servers and pages": "the same, while pages are read from the replica",
}


@dataclass
class Page:
    """A page of the back office: its median time, its number of queries, and its limit."""

    name: str
    milliseconds: float
    queries: int
    limit: int


@dataclass(frozen=True, slots=True)
class Sent:
    """The messages of a call to PostgreSQL, including BEGIN and COMMIT."""

    statements: float
    round_trips: float


@dataclass(frozen=True, slots=True)
class Looks:
    """Looks into the back office for the latest redemption: the duration of each, and how many used the replica."""

    seconds: list[float]
    from_replica: int


@dataclass
class Results:
    """All measurements of one run of the benchmark; `measured` is by kind, clients and redemptions."""

    measured: dict[tuple[str, int, int], list[Measured]] = field(default_factory=lambda: defaultdict(list))
    sent: dict[str, Sent] = field(default_factory=dict)
    looks: Looks | None = None
    pages: list[Page] = field(default_factory=list)
    took: dict[str, float] = field(default_factory=dict)
    imported: dict[str, float] = field(default_factory=dict)

    def write(self, made: Sequence[Ledger]) -> None:
        parts = [
            self._head(),
            self._sizes(made),
            self._kinds(made),
            self._on_sqlite(),
            self._together(),
            self._others(made),
        ]
        FILE.write_text("\n\n".join(parts) + "\n")
        print(f"written: {FILE}")

    def median(self, name: tuple[str, int, int], of: Callable[[Measured], float]) -> float:
        return statistics.median(of(measured) for measured in self.measured[name])

    def rate(self, name: tuple[str, int, int]) -> float:
        return self.median(name, lambda measured: measured.per_second)

    def cpu(self, name: tuple[str, int, int], who: str) -> float:
        return self.median(name, lambda measured: measured.cpu[who])

    def ratio(self, one: tuple[str, int, int], other: tuple[str, int, int]) -> str:
        """The median of the ratios of the rounds, with the lowest and the highest."""
        ratios = [
            first.per_second / second.per_second
            for first, second in zip(self.measured[one], self.measured[other], strict=True)
        ]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

    def _head(self) -> str:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        rounds = max(len(runs) for runs in self.measured.values())
        return (
            f"# Results\n\nOutput of `make bench`: medians of {rounds} interleaved rounds. A ratio is the median of the"
            " rounds' ratios, with the lowest and the highest."
            f"\nCommit {commit.stdout.strip()}, {datetime.now(UTC):%Y-%m-%d}. {os.cpu_count()} cores"
            f" ({platform.machine()}), Python {platform.python_version()}, PostgreSQL 18 with commits that wait for the"
            " disk. PostgreSQL, the server and the load share the cores."
        )

    def _sizes(self, made: Sequence[Ledger]) -> str:
        lines = [
            "## Throughput by ledger size\n",
            "| redemptions | (a) 8 clients | (c) 8 clients | (c)/(a) | (a) 32 | (c) 32 | (c)/(a) | built in |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for ledger in made:
            cells = [f"{ledger.rows:,}"]
            for clients in (8, 32):
                a, c = ("pgbench", clients, ledger.rows), ("reverse", clients, ledger.rows)
                cells += [f"{self.rate(a):.0f}/s", f"{self.rate(c):.0f}/s", self.ratio(c, a)]
            cells.append(f"{self.took[f'building {ledger.rows:,}']:.0f} s")
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def _kinds(self, made: Sequence[Ledger]) -> str:
        lines = [
            "## Cost of a call\n",
            "CPU is milliseconds per call of PostgreSQL, server and load. Sent is the number of statements and of round"
            " trips of a call to PostgreSQL, including BEGIN and COMMIT.\n",
            "| call | clients | per second | to (a) | to (b) | to (c) | p50 ms | p99 ms | p99/p50 | CPU | sent |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for name in self._names(WORDS):
            kind, clients, rows = name
            if ("constant", 8, rows) not in self.measured:
                continue
            tail = self.median(name, lambda measured: measured.p99 / measured.p50)
            cpu = ", ".join(f"{self.cpu(name, who):.2f}" for who in ("PostgreSQL", "server", "load"))
            lines.append(
                f"| {WORDS[kind]} | {clients} | {self.rate(name):.0f} | {self.ratio(name, ('pgbench', 8, rows))} |"
                f" {self.ratio(name, ('constant', 8, rows))} | {self.ratio(name, ('reverse', 8, rows))} |"
                f" {self.median(name, lambda measured: measured.p50):.1f} |"
                f" {self.median(name, lambda measured: measured.p99):.1f} | {tail:.2f} |"
                f" {cpu} | {self._sent(kind)} |"
            )
        return "\n".join([*lines, *self._floors(made)])

    def _floors(self, made: Sequence[Ledger]) -> Iterator[str]:
        """Compares the CPU of a reversal with its lower limit: the constant view, pgbench and the load."""
        for rows in (ledger.rows for ledger in made if ("constant", 8, ledger.rows) in self.measured):
            constant, reverse = ("constant", 8, rows), ("reverse", 8, rows)
            load = self.cpu(reverse, "load")
            floor = self.cpu(constant, "server") + self.cpu(("pgbench", 8, rows), "PostgreSQL") + load
            whole = load + self.cpu(reverse, "server") + self.cpu(reverse, "PostgreSQL")
            yield (
                f"\nThe constant view, pgbench and the load together use {floor / whole:.2f} of the CPU of a reversal."
                f" The server uses {self.cpu(reverse, 'server') / self.cpu(constant, 'server'):.2f} times the CPU of"
                " the constant view."
            )

    def _sent(self, kind: str) -> str:
        sent = self.sent.get(kind)
        return f"{sent.statements:.2f} in {sent.round_trips:.2f}" if sent else ""

    def _on_sqlite(self) -> str:
        lines = [
            "## SQLite\n",
            "CPU is milliseconds per call, without the load.\n",
            "| reversal by | clients | per second | to the module | p50 ms | p99 ms | CPU |",
            "|---|---|---|---|---|---|---|",
        ]
        for name in self._names(ON_SQLITE):
            kind, clients, rows = name
            lines.append(
                f"| {ON_SQLITE[kind]} | {clients} | {self.rate(name):.0f} | {self.ratio(name, ('sqlite3', 1, rows))} |"
                f" {self.median(name, lambda measured: measured.p50):.1f} |"
                f" {self.median(name, lambda measured: measured.p99):.1f} | {self.cpu(name, 'server'):.2f} |"
            )
        return "\n".join(lines)

    def _together(self) -> str:
        lines = [
            "## Several servers on this machine\n",
            "| reversal by | clients | per second | to one server | p50 ms | p99 ms |",
            "|---|---|---|---|---|---|",
        ]
        for name in self._names(TOGETHER):
            kind, clients, rows = name
            lines.append(
                f"| {TOGETHER[kind]} | {clients} | {self.rate(name):.0f} |"
                f" {self.ratio(name, ('one server', clients, rows))} |"
                f" {self.median(name, lambda measured: measured.p50):.1f} |"
                f" {self.median(name, lambda measured: measured.p99):.1f} |"
            )
        if self.looks:
            times = sorted(self.looks.seconds)
            lines.append(
                f"\nMeanwhile points were redeemed, and the page of the new redemption was opened {len(times)} times."
                f" The replica served {self.looks.from_replica} of these pages, and each page showed the redemption."
                f" The median was {1000 * statistics.median(times):.0f} ms, the slowest {1000 * times[-1]:.0f} ms."
            )
        return "\n".join(lines)

    def _names(self, words: Mapping[str, str]) -> list[tuple[str, int, int]]:
        """The names of the measurements of these kinds, in the order of `words`."""
        measured = (name for name in self.measured if name[0] in words)
        return sorted(measured, key=lambda name: (list(words).index(name[0]), name[1:]))

    def _others(self, made: Sequence[Ledger]) -> str:
        lines = [
            f"## Back office on {made[-1].rows:,} redemptions\n",
            "| page | ms | queries | limit, ms |",
            "|---|---|---|---|",
        ]
        lines += [f"| {page.name} | {page.milliseconds:.0f} | {page.queries} | {page.limit} |" for page in self.pages]
        lines += ["\n## Commands\n", "| command | time or rate |", "|---|---|"]
        lines += [f"| {name} | {seconds:.1f} s |" for name, seconds in self.took.items()]
        lines += [f"| {name} | {rate:,.0f} rows a minute |" for name, rate in self.imported.items()]
        return "\n".join(lines)
