"""Compares reversals on SQLite with the `sqlite3` module sending the same statements; prints the results as JSON."""

import json
import logging
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from io import BytesIO
from typing import Any
from wsgiref.util import setup_testing_defaults

from tests import environment  # noqa: F401  sets the environment before Django reads it

from config.wsgi import application  # isort: skip
from django.db import connection

from benchmarks.ledgers import authorization, customers_of
from benchmarks.machines import Ledger, Measured, per_call
from loyalty.fields import new_row_id
from loyalty.models import ApiClient, ApiSecret, Program
from reversals.movements.public_ids import new_public_id

CALLS = 1_000

# The SQL of a statement and its parameters.
Sent = tuple[str, Sequence[Any]]


class Reversals:
    """Reverses odd redemptions in one thread, from the last one down; the server starts from the first one up."""

    def __init__(self, rows: int) -> None:
        self.customers = customers_of(rows)
        self.remaining = iter(range(rows - 1, 0, -2))
        ask(self._call(next(self.remaining)))  # the first call of an hour also records the use of the secret
        self.recorded = next(self.remaining)
        self.statements, self.public_id = self._record()
        kept = {row for model in (Program, ApiClient, ApiSecret) for row in model.objects.values_list("id", flat=True)}
        numbers = {value for _, params in self.statements for value in params if type(value) is int}
        self.new_ids = sorted(number for number in numbers - kept if number > 10**15)

    def through_application(self) -> Measured:
        """Times the WSGI application, without a server."""
        return _timed(ask, [self._call(next(self.remaining)) for _ in range(CALLS)])

    def through_module(self) -> Measured:
        """Sends the recorded statements with the ids of other reversals, in a session like the application's."""
        calls = [self._statements(next(self.remaining)) for _ in range(CALLS)]
        with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as module:
            module.executescript(connection.settings_dict["OPTIONS"]["init_command"] + "PRAGMA foreign_keys=ON;")

            def send(statements: Sequence[Sent]) -> None:
                for sql, params in statements:
                    module.execute(sql, params).fetchall()

            return _timed(send, calls)

    def _call(self, redemption: int) -> bytes:
        identifier = {"type": "ID", "value": str(redemption % self.customers + 1)}
        body = {"redemptionId": f"R{redemption}", "identifier": identifier, "pointsToBeReversed": 0.001}
        return json.dumps(body).encode()

    def _record(self) -> tuple[list[Sent], str]:
        """Records the statements of a reversal; returns them with its public id."""
        sent: list[Sent] = []

        def record(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
            sent.append((sql.replace("%s", "?"), tuple(params or ())))
            return execute(sql, params, many, context)

        with connection.execute_wrapper(record):
            reply = ask(self._call(self.recorded))
        if [sql for sql, _ in sent].count("BEGIN IMMEDIATE") != 1:
            raise RuntimeError(f"expected one transaction: {sent}")
        return [*sent, ("COMMIT", ())], reply["reversalId"]

    def _statements(self, redemption: int) -> list[Sent]:
        """The statements of a reversal of another redemption."""
        replacements = dict(zip(self._names(self.recorded), self._names(redemption), strict=True))
        replacements |= {self.public_id: new_public_id()} | {row_id: new_row_id() for row_id in self.new_ids}
        return [(sql, [replacements.get(value, value) for value in params]) for sql, params in self.statements]

    def _names(self, redemption: int) -> list[object]:
        """The values that identify a redemption: its id, its customer's, and the row ids."""
        customer = redemption % self.customers
        rows = [1_000_000_001 + customer, *(number * 1_000_000_000 + redemption for number in (2, 3, 4))]
        return [f"R{redemption}", customer + 1, *rows]


def ask(body: bytes) -> dict[str, Any]:
    """Sends a reversal to the application, and returns the reply."""
    call: dict[str, Any] = {"REQUEST_METHOD": "POST", "PATH_INFO": "/v2/points/reverse", "REMOTE_ADDR": "127.0.0.1"}
    call |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)), "wsgi.input": BytesIO(body)}
    call["HTTP_AUTHORIZATION"] = authorization("till.1")
    setup_testing_defaults(call)
    with closing(application(call, _begin)) as response:
        reply: dict[str, Any] = json.loads(b"".join(response))
    if "reversalId" not in reply:
        raise RuntimeError(reply)
    return reply


def _begin(status: str, headers: object, error: object = None) -> Callable[[bytes], object]:
    """Ignores the status and headers of a reply."""
    return BytesIO().write


def _timed(make: Callable[[Any], object], calls: Sequence[Any]) -> Measured:
    times = []
    used = time.process_time()
    for call in calls:
        started = time.perf_counter()
        make(call)
        times.append(time.perf_counter() - started)
    return per_call(times, sum(times), {"server": time.process_time() - used})


def main(url: str, rows: int, rounds: int, seconds: int) -> None:
    """Prints as JSON the kind of call, the number of clients and the runs of each measurement."""
    ledger, reversals = Ledger(url, rows), Reversals(rows)
    runs: dict[tuple[str, int], Callable[[], Measured]] = {
        ("sqlite3", 1): reversals.through_module,
        ("application on SQLite", 1): reversals.through_application,
        ("server on SQLite", 1): lambda: ledger.ask("reverse", clients=1, seconds=seconds),
        ("server on SQLite", 8): lambda: ledger.ask("reverse", clients=8, seconds=seconds),
    }
    ledger.serve()
    try:
        made = [{name: asdict(run()) for name, run in runs.items()} for _ in range(rounds)]
    finally:
        ledger.server.stop()
    print(json.dumps([[*name, [each[name] for each in made]] for name in runs]))


if __name__ == "__main__":
    logging.disable(logging.INFO)
    main(sys.argv[1], *map(int, sys.argv[2:]))
