"""Clients that send calls with keys, retry until each is answered, and record the answers."""

import json
import random
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any

SECRET = "a-secret-of-more-than-32-characters"
HEADERS = {
    "Authorization": "Basic " + b64encode(f"till.1:{SECRET}".encode()).decode(),
    "Content-Type": "application/json",
}
CLIENTS = 8
TRIES_FOR_SECONDS = 90.0


@dataclass
class Journal:
    """What the clients received: the final answer to each key, and the status and code of every answer."""

    answers: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    codes: Counter[str] = field(default_factory=Counter)
    refused_at: list[float] = field(default_factory=list)
    accepted_at: list[float] = field(default_factory=list)
    tries: int = 0
    slowest_seconds: float = 0
    unanswered: list[str] = field(default_factory=list)

    def accepted(self) -> dict[str, str]:
        """The public id of the movement in the answer to each accepted key."""
        bodies = {key: body for key, (status, body) in self.answers.items() if status == 200}
        return {key: body.get("reversalId") or body["redemptionId"] for key, body in bodies.items()}


class Load:
    """Runs clients during the block. At its end, every key that was sent has its answer or is listed as unanswered.

    With `is_keyed=False` they redeem points without a key, and no call is sent again.
    """

    def __init__(
        self,
        connect: Sequence[Callable[[], HTTPConnection]],
        redemptions: Sequence[tuple[str, int]],
        *,
        name: str,
        is_keyed: bool = True,
    ) -> None:
        self.connect, self.redemptions, self.name = list(connect), list(redemptions), name
        self.is_keyed = is_keyed
        self.journal = Journal()
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.clients = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> "Load":
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for client in self.clients:
            client.join()

    def answered(self) -> int:
        return len(self.journal.answers)

    def _client(self, number: int) -> None:
        chance = random.Random(f"{self.name} {number}")
        count = 0
        while not self.over.is_set():
            count += 1
            key = f"{self.name}-{number}-{count}"
            if self.is_keyed:
                self._send_until_answered(key, *self._next_call(chance))
            else:
                self._send(HEADERS, *_redemption(chance.choice(self.redemptions)[1], key))

    def _next_call(self, chance: random.Random) -> tuple[str, dict[str, Any]]:
        """The path and body of a call: usually part of a reversal, sometimes all remaining points, or a redemption."""
        redemption_id, customer_id = chance.choice(self.redemptions)
        kind = chance.random()
        if kind < 0.1:
            return f"/v2/customers/{customer_id}/redemptions", {"points": 0.001, "programId": "973"}
        body = {"redemptionId": redemption_id, "identifier": {"type": "ID", "value": str(customer_id)}}
        return "/v2/points/reverse", body if kind < 0.102 else body | {"pointsToBeReversed": 0.001}

    def _send_until_answered(self, key: str, path: str, body: dict[str, Any]) -> None:
        until = time.monotonic() + TRIES_FOR_SECONDS
        while time.monotonic() < until:
            answer = self._send(HEADERS | {"Idempotency-Key": key}, path, body)
            if answer is not None and (answer[0] == 200 or (400 <= answer[0] < 500 and answer[0] not in {409, 429})):
                with self.lock:
                    self.journal.answers[key] = answer
                return
            time.sleep(0.1)  # sooner than Retry-After, so that clients notice the fault
        with self.lock:
            self.journal.unanswered.append(key)

    def _send(self, headers: dict[str, str], path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Sends the call to one of the servers; returns its answer, or None if there was no answer."""
        started = time.monotonic()
        try:
            with closing(random.choice(self.connect)()) as connection:
                connection.request("POST", path, json.dumps(body), headers)
                response = connection.getresponse()
                text = response.read()
                answer = response.status, json.loads(text)
        except (OSError, HTTPException, ValueError):
            self._count("no answer", started)
            return None
        errors = answer[1].get("errors") or [{}]
        self._count(f"{answer[0]} {errors[0].get('code', '')}".strip(), started)
        return answer

    def _count(self, code: str, started: float) -> None:
        with self.lock:
            self.journal.slowest_seconds = max(self.journal.slowest_seconds, time.monotonic() - started)
            self.journal.tries += 1
            self.journal.codes[code] += 1
            if code == "no answer" or code.startswith("5"):
                self.journal.refused_at.append(time.monotonic())
            if code == "200":
                self.journal.accepted_at.append(time.monotonic())


def _redemption(customer_id: int, number: str) -> tuple[str, dict[str, Any]]:
    """The path and body of a redemption that is not a duplicate of another one."""
    body = {"points": 0.001, "programId": "973", "transactionNumber": number}
    return f"/v2/customers/{customer_id}/redemptions", body
