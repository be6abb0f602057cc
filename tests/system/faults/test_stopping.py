"""A server that is asked to stop answers its open calls, so even calls without a key are all accounted for."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPException

import pytest

from tests.system.faults.conftest import Stage
from tests.system.faults.load import CLIENTS, HEADERS
from tests.system.faults.machines import Server, wait_until


@pytest.mark.deep
def test_stopping_server_answers_every_call_it_accepted(stage: Stage, serve: Callable[..., Server]) -> None:
    assert stage.database is not None
    server = serve(stage)
    before = set(_reversals(stage))
    answered: list[str] = []
    clients = [threading.Thread(target=_ask_until_refused, args=(server, stage, n, answered)) for n in range(CLIENTS)]
    for client in clients:
        client.start()
    wait_until(lambda: len(answered) >= 100)
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 15
    for client in clients:
        client.join()
    assert set(_reversals(stage)) - before == set(answered)


def _ask_until_refused(server: Server, stage: Stage, number: int, answered: list[str]) -> None:
    """Reverses a different amount of one redemption each time, without a key, until the server is gone."""
    redemption_id, customer_id = stage.redemptions[-1 - number]
    for thousandths in range(1, 10_000):
        request = {"redemptionId": redemption_id, "identifier": {"type": "ID", "value": str(customer_id)}}
        body = json.dumps(request | {"pointsToBeReversed": thousandths / 1000})
        try:
            with closing(server.connect()) as http:
                http.request("POST", "/v2/points/reverse", body, HEADERS)
                response = http.getresponse()
                answer = json.loads(response.read())
        except (OSError, HTTPException):
            return
        if response.status == 200:
            answered.append(answer["reversalId"])


def _reversals(stage: Stage) -> list[str]:
    assert stage.database is not None
    return [public_id for (public_id,) in stage.database.rows("SELECT public_id FROM reversals_reversal")]
