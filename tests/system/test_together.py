"""`make serve` and `make demo` run the server and a worker together, and Ctrl-C ends both."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from http.client import HTTPConnection

import psutil
import pytest

from tests.serving import ROOT
from tests.system.faults.machines import free_port, wait_until


@pytest.mark.once
def test_signals_to_the_whole_group_end_server_and_worker(environment: dict[str, str]) -> None:
    port = free_port()
    words = [sys.executable, "-m", "config.together", "--port", str(port)]
    together = subprocess.Popen(words, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port))
        children = psutil.Process(together.pid).children(recursive=True)
        # As a terminal does with Ctrl-C, and `timeout` with its own signal; a user presses Ctrl-C twice.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.killpg(together.pid, number)
        assert together.wait(30) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(together.pid, signal.SIGKILL)
    assert len(children) >= 3  # the server, its worker processes, and `manage.py work`
    assert [each for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []


def _answers(port: int) -> bool:
    with suppress(OSError):
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    return False
