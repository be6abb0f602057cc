"""Metrics of the server as it ships: counts of its workers are summed and survive the death of a worker."""

import os
import signal
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tests.api.test_monitoring import grown, samples_of
from tests.serving import serving
from tests.system.test_server import ask as reverse_over


def test_counts_of_killed_worker_are_kept(environment: dict[str, str], tmp_path: Path) -> None:
    """The counts of the worker that replaces it are added."""

    def workers() -> set[int]:
        return {int(file.stem.rpartition("_")[2]) for file in tmp_path.glob("counter_*.db")}

    def ask_until(count: int) -> int:
        answered, deadline = 0, time.monotonic() + 120
        while len(workers()) < count or answered < 20:
            assert time.monotonic() < deadline, f"only {workers()} have counted calls"
            with suppress(OSError, HTTPException):
                answered += ask(port, "/openapi.json")[0] == 200
        return answered

    with serving(environment | {"GRANIAN_WORKERS": "2", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}) as port:
        answered = ask_until(2)
        killed = min(workers())
        os.kill(killed, signal.SIGKILL)
        answered += ask_until(3)
        samples = samples_of(ask(port, "/metrics")[1])
    assert samples["loyalty_calls_total", (("code", ""), ("operation", "ReadDocument"), ("status", "200"))] == answered
    assert samples["loyalty_call_seconds_count", (("operation", "ReadDocument"),)] == answered


def test_metrics_sum_all_workers(environment: dict[str, str]) -> None:
    with serving(environment | {"GRANIAN_WORKERS": "2"}) as port:
        before = samples_of(ask(port, "/metrics")[1])
        for _ in range(40):
            assert ask(port, "/openapi.json")[0] == 200
        for number in range(10):
            assert reverse_over(port, Idempotency_Key=f"summed {number // 2}")[0].status == 400
            assert reverse_over(port, Idempotency_Key=f"summed-{number // 2}")[0].status == 200
        after = samples_of(ask(port, "/metrics")[1])
    calls = grown(before, after, "loyalty_calls_total")
    assert calls["", "ReadDocument", "200"] == 40
    assert calls["", "ReversePoints", "200"] == calls["887", "ReversePoints", "400"] == 10
    assert grown(before, after, "loyalty_replays_total") == {("ReversePoints",): 5}
    assert grown(before, after, "loyalty_lock_seconds_count") == {("REVERSE",): 5}


def ask(port: int, address: str) -> tuple[int, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as http:
        http.request("GET", address)
        response = http.getresponse()
        return response.status, response.read().decode()
