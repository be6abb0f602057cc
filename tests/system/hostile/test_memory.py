"""Hostile requests cause no 5xx, and the server as it ships does not leak memory."""

import os

import psutil
import pytest

from tests.system.hostile.conversation import answers_in, send
from tests.system.hostile.corpus import CORPUS
from tests.system.hostile.requests import Hostile, body
from tests.system.hostile.test_server import LAST_REQUEST
from tests.system.hostile.wire import CHUNKED, LAST, WIRE, chunk, head

pytestmark = pytest.mark.usefixtures("on_sqlite")

ALLOWED = 20_000_000
LARGE = [
    Hostile("10 MB with a length", 413, 413, body=body().ljust(10_000_000)).raw,
    head(CHUNKED) + chunk(b" " * 10_000_000) + LAST,
    Hostile("60 KB of arrays", 200, body=body(more=',"note":[' + ",".join(["[]"] * 15_000) + "]")).raw,
]
SMALL = [hostile.raw for hostile in CORPUS if hostile.method != "HEAD"] + [case.raw for case in WIRE]


def memory_of_workers() -> int:
    """The memory of all child processes of this one, in bytes."""
    return sum(each.memory_info().rss for each in psutil.Process(os.getpid()).children(recursive=True))


def send_all(port: int, requests: list[bytes]) -> None:
    for raw in requests:
        answers = answers_in(send(port, raw + LAST_REQUEST))
        assert [status for (status, _), _ in answers if status >= 500] == [], raw[:200]


def check_memory(port: int, requests: list[bytes], *, rounds: int) -> None:
    """Checks that further rounds need no more memory than the first one, in which the server allocates its memory."""
    send_all(port, requests)
    before = memory_of_workers()
    send_all(port, requests * rounds)
    assert before > ALLOWED
    assert memory_of_workers() - before < ALLOWED


def test_three_rounds_of_hostile_requests_do_not_grow_memory(port: int) -> None:
    check_memory(port, SMALL[::10] + LARGE, rounds=3)


@pytest.mark.deep
def test_twenty_rounds_with_two_hundred_large_bodies_do_not_grow_memory(port: int) -> None:
    check_memory(port, SMALL + LARGE * 4, rounds=20)
