"""Metrics of the server as it ships: counts of its workers are summed and survive the death of a worker."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.api.test_monitoring import grown, samples_of
from tests.serving import HEADERS, serving
from tests.system.faults.machines import free_port, wait_until
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


@pytest.mark.once
def test_monitoring_port_answers_while_all_threads_hang(environment: dict[str, str]) -> None:
    """Half a body occupies a thread. After the threads are free, and after a worker's death, both ports answer."""
    monitoring = free_port()
    more = {"GRANIAN_WORKERS": "2", "GRANIAN_BLOCKING_THREADS": "2", "MONITORING_ADDRESS": f"127.0.0.1:{monitoring}"}
    with serving(environment | more) as port:
        wait_until(lambda: _answers(monitoring, "/health/live"))
        hanging = [half_a_call(port) for _ in range(60)]
        wait_until(lambda: not _answers(port, "/health/live"))
        for address in ("/health/live", "/health/ready", "/metrics"):
            started = time.monotonic()
            assert ask(monitoring, address)[0] == 200
            assert time.monotonic() - started < 3
        assert "loyalty_calls_total" in ask(monitoring, "/metrics")[1]
        assert ask(monitoring, "/openapi.json")[0] == 404
        for each in hanging:
            each.close()
        wait_until(lambda: _answers(port, "/health/live"))
        [owner] = {each.pid for each in psutil.net_connections("tcp4") if _listens(each, monitoring)}
        os.kill(owner, signal.SIGKILL)
        wait_until(lambda: _answers(monitoring, "/health/live"))


def half_a_call(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    connection.sendall(
        f"POST /v2/points/reverse HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: 99\r\n\r\n{{".encode()
    )
    return connection


def _answers(port: int, address: str) -> bool:
    with suppress(OSError, HTTPException), closing(HTTPConnection("127.0.0.1", port, timeout=1)) as http:
        http.request("GET", address)
        return http.getresponse().status == 200
    return False


def _listens(each: Any, port: int) -> bool:
    return each.status == "LISTEN" and each.laddr.port == port


def test_server_refuses_to_start_if_the_monitoring_address_is_in_use(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        words = [sys.executable, "-m", "config.serve", "--port", str(free_port())]
        more = {"MONITORING_ADDRESS": address}
        done = subprocess.run(words, env=environment | more, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"MONITORING_ADDRESS is {address}, which cannot be used: ")
