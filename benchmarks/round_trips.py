"""Counts the messages that calls send to PostgreSQL, in libpq's trace of its own messages."""

import json
import re
import tempfile
from collections.abc import Iterator

from django.db import connection
from django.test import Client
from psycopg.pq import Trace

from benchmarks.ledgers import authorization, customers_of
from benchmarks.results import Sent

REVERSE = "/v2/points/reverse"
CALLS = 100
STATEMENT = re.compile(r"^F\t\d+\t(?:Query|Execute)\b", re.MULTILINE)
ANSWER = re.compile(r"^B\t\d+\tReadyForQuery\b", re.MULTILINE)


def measure(rows: int) -> dict[str, Sent]:
    """The average messages of one call of each kind, on the fresh ledger that this process is connected to."""
    redemptions = iter(range(rows - 5, 0, -2))  # not reversed yet; benchmarks.statements uses the last ones
    kinds = ("plain", "reverse", "keyed", "refused", "redeem")
    return {kind: _sent_by(kind, redemptions, customers_of(rows)) for kind in kinds}


def _sent_by(kind: str, redemptions: Iterator[int], customers: int) -> Sent:
    for _ in range(10):  # the first calls prepare their statements
        _call(kind, next(redemptions), customers)
    with tempfile.TemporaryFile() as file:
        session = connection.connection.pgconn
        session.trace(file.fileno())
        session.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        for _ in range(CALLS):
            _call(kind, next(redemptions), customers)
        session.untrace()
        file.seek(0)
        trace = file.read().decode()
    return Sent(len(STATEMENT.findall(trace)) / CALLS, len(ANSWER.findall(trace)) / CALLS)


def _call(kind: str, redemption: int, customers: int) -> None:
    """Sends one call in the same form as load.lua."""
    customer = redemption % customers + 1
    body = {"redemptionId": f"R{redemption}", "identifier": {"type": "ID", "value": str(customer)}}
    path, content, headers = {
        "plain": ("/bench/plain", body | {"pointsToBeReversed": 0.5}, {}),
        "reverse": (REVERSE, body | {"pointsToBeReversed": 0.5}, {}),
        "keyed": (REVERSE, body | {"pointsToBeReversed": 0.5}, {"Idempotency-Key": f"sent-{redemption}"}),
        "refused": (REVERSE, body | {"pointsToBeReversed": 999_999}, {}),
        "redeem": (
            f"/v2/customers/{customer}/redemptions",
            {"points": 0.001, "programId": "973", "transactionNumber": f"sent-{redemption}"},
            {},
        ),
    }[kind]
    headers = headers | {"Authorization": authorization("till.1")}
    reply = Client(headers=headers).post(path, json.dumps(content), content_type="application/json")
    if reply.status_code != (400 if kind == "refused" else 200):
        raise RuntimeError(f"{kind}: {reply.content!r}")
