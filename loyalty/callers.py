"""Remembers in each worker who called lately, so that the look-up can be left to the statement that locks.

What is remembered is believed only once the database has said the same, within the call and before it is answered:
a secret that was revoked, or a switch that was turned off, counts at once on every worker.
"""

import time
from dataclasses import dataclass

from loyalty.credentials import keyed_digest
from loyalty.failed_logins import Login
from loyalty.selectors import Caller, find_caller

REMEMBERED_SECONDS = 60
MOST_REMEMBERED = 1_000

_remembered: dict[str, "_Memory"] = {}


class Unproven(Exception):
    """What was remembered of the caller could not be proven: the call has to begin anew, with a look-up."""


@dataclass(slots=True)
class Belief:
    """Who calls, and whether the database has said so within this call."""

    login: Login
    caller: Caller
    name: str
    proven: bool

    def compare(self, state: str | None) -> None:
        """Takes what the database says of the login now; None is nothing. Raises Unproven where it says otherwise."""
        if state != self.caller.state:
            _remembered.pop(self.name, None)
            raise Unproven
        self.proven = True

    def prove(self) -> None:
        """Asks the database, where it has not said so yet. Raises Unproven where it says otherwise."""
        if not self.proven:
            found = find_caller(username=self.login.username, digest=self.login.digest)
            self.compare(None if found is None else found.state)

    def give_up(self) -> None:
        """Raises Unproven where the database has not said so yet."""
        if not self.proven:
            self.compare(None)


@dataclass(frozen=True, slots=True)
class _Memory:
    login: Login
    caller: Caller
    until: float


def recall(authorization: str, address: str | None) -> Belief | None:
    """Whom this header named when it came from this address within the last minute."""
    name = _name_of(authorization, address)
    memory = _remembered.get(name)
    if memory is None or memory.until < time.time():
        return None
    return Belief(memory.login, memory.caller, name, proven=False)


def remember(authorization: str, login: Login, caller: Caller) -> Belief:
    """Keeps whom the database has just found for this header."""
    if len(_remembered) >= MOST_REMEMBERED:
        _remembered.clear()
    name = _name_of(authorization, login.address)
    _remembered[name] = _Memory(login, caller, time.time() + REMEMBERED_SECONDS)
    return Belief(login, caller, name, proven=True)


def _name_of(authorization: str, address: str | None) -> str:
    """What a caller goes by in memory, which holds no secret."""
    return keyed_digest(f"{address} {authorization}")
