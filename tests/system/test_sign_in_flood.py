"""A flood of sign-ins or sign-in pages by strangers, and a till that calls the API meanwhile."""

import statistics
import subprocess
import sys
import time
from contextlib import closing
from http.client import HTTPConnection

import pytest

from tests.serving import HEADERS, serving
from tests.system.test_server import REQUEST, REVERSE

CONNECTIONS = 12
SECONDS = 10

# Posts ever new usernames or opens the page over several connections, ends by itself, and prints how often each status
# was answered. Its low priority makes it more like the flood of another machine, which does not use these cores.
FLOOD = """
import collections, os, sys, threading, time
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode
method, (port, connections, seconds) = sys.argv[1], map(int, sys.argv[2:])
os.nice(19)
ends, statuses = time.monotonic() + seconds, collections.Counter()
headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": "csrftoken=" + "a" * 32}
def post(number):
    connection, count = HTTPConnection("127.0.0.1", port, timeout=30), 0
    while time.monotonic() < ends:
        count += 1
        form = {"username": f"u{number}x{count}", "password": "a guess", "csrfmiddlewaretoken": "a" * 32}
        try:
            connection.request(method, "/admin/login/", urlencode(form) if method == "POST" else None, headers)
            reply = connection.getresponse()
            reply.read()
            statuses[reply.status] += 1
        except (OSError, HTTPException):
            connection.close()
            statuses["closed"] += 1
threads = [threading.Thread(target=post, args=[number]) for number in range(connections)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(dict(statuses))
"""


def milliseconds_of_a_till(port: int, seconds: float) -> list[float]:
    """Calls the API for so many seconds, 20 times a second at most, and returns how long each call took."""
    taken, ends = [], time.monotonic() + seconds
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        while time.monotonic() < ends:
            began = time.monotonic()
            connection.request("POST", REVERSE, REQUEST, HEADERS)
            response = connection.getresponse()
            response.read()
            taken.append(1_000 * (time.monotonic() - began))
            time.sleep(0.02)
    return taken


def p99(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100)[98]


def flood(method: str, port: int) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", FLOOD, method, *map(str, (port, CONNECTIONS, SECONDS))]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


@pytest.mark.deep
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_till_is_answered_within_a_second_during_a_flood_of_sign_ins(environment: dict[str, str], method: str) -> None:
    """Without the limits of sign-ins a call takes up to 27 s. The flood uses the same cores as the server."""
    with serving(environment) as port:
        milliseconds_of_a_till(port, 2)
        quiet = milliseconds_of_a_till(port, SECONDS)
        attack = flood(method, port)
        flooded = milliseconds_of_a_till(port, SECONDS)
        statuses, _ = attack.communicate(timeout=60)
    report = f"p99 {p99(quiet):.1f} ms quiet, {p99(flooded):.1f} ms flooded; the sign-ins were answered {statuses}"
    report += (
        f"; p50 {statistics.median(quiet):.1f} {statistics.median(flooded):.1f}; calls {len(quiet)} {len(flooded)}"
    )
    print(report)
    assert p99(flooded) < 1_000, report
