"""Maintenance while 50 clients call two servers: once the command has returned, no call writes any more."""

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from http.client import HTTPConnection
from threading import Event

import pytest

from tests.serving import HEADERS, manage, serving

CLIENTS = 50
BODY = {
    "redemptionId": "R41453239231",
    "pointsToBeReversed": 0.001,
    "identifier": {"type": "ID", "value": "564000111"},
}
COUNTS = "from reversals.models import Attempt, Reversal; from loyalty.models import Redemption; print('counted',"
COUNTS += " Attempt.objects.count(), Reversal.objects.count(), Redemption.objects.count())"


def answer(port: int, key: str, *, redeems: bool = False) -> tuple[int, int, Message]:
    """The status, the code and the headers of a call."""
    till = HTTPConnection("127.0.0.1", port, timeout=60)
    path = "/v2/customers/564000111/redemptions" if redeems else "/v2/points/reverse"
    body = {"points": 0.001, "programId": "973"} if redeems else BODY
    till.request("POST", path, json.dumps(body), HEADERS | {"Idempotency-Key": key})
    reply = till.getresponse()
    errors = json.loads(reply.read())["errors"]
    till.close()
    return reply.status, errors[0]["code"] if errors else 0, reply.headers


def written(installation: dict[str, str]) -> str:
    [line] = [line for line in manage(installation, ("shell", "-v0", "-c", COUNTS)).splitlines() if "counted" in line]
    return line


@pytest.mark.usefixtures("on_postgresql")
def test_no_call_of_fifty_clients_writes_after_the_command_has_returned(installation: dict[str, str]) -> None:
    over, returned = Event(), Event()
    with serving(installation) as first, serving(installation) as second, ThreadPoolExecutor(CLIENTS) as pool:

        def call(number: int) -> tuple[Counter[int], Counter[int]]:
            """Calls until the test is over; returns the codes of calls that began before and after the command."""
            before: Counter[int] = Counter()
            after: Counter[int] = Counter()
            count = 0
            while not over.is_set():
                count += 1
                codes = after if returned.is_set() else before
                port = (first, second)[count % 2]
                codes[answer(port, f"key-{number}-{count}", redeems=number % 5 == 0)[1]] += 1
            return before, after

        assert answer(first, "held")[:2] == (200, 0)
        clients = [pool.submit(call, number) for number in range(CLIENTS)]
        time.sleep(2)
        said = json.loads(manage(installation, ("maintenance", "on", "--reason", "drill", "--json")).splitlines()[-1])
        returned.set()
        at_return = written(installation)
        time.sleep(2)
        over.set()
        codes = [client.result() for client in clients]
        at_end = written(installation)
        replayed = answer(second, "held")
        refused = answer(second, "another", redeems=True)
        manage(installation, ("maintenance", "off"))
        allowed = [answer(port, f"afterwards-{port}")[0] for port in (first, second)]
    before, after = (sum(part, Counter()) for part in zip(*codes, strict=True))
    assert (said["on"], said["running"]) == (True, [])
    assert before[0] > 20
    assert sum(after.values()) > 20
    assert set(after) == {898}
    assert at_end == at_return
    assert (replayed[0], replayed[2].get("Idempotent-Replayed")) == (200, "true")
    assert (refused[:2], refused[2]["Retry-After"]) == ((503, 898), "30")
    assert allowed == [200, 200]
