"""Stops who guesses API secrets: wrong credentials are counted per client and address, and per address, by the minute.

Only wrong ones are counted, so that right ones cost nothing. Each worker remembers what it learned is closed and
refuses it before the database is asked: at most the limit and one guess per worker get through in a minute.
Credentials that were right from an address lately are never refused there: whoever shares the address of a till,
or its name, cannot lock it out.
"""

from dataclasses import dataclass
from functools import cached_property

from django.conf import settings
from django.core.cache import cache

from loyalty.clients import counters

# The tills of a shop share an address.
CLIENTS_PER_ADDRESS = 10
REMEMBERED_SECONDS = 24 * 60 * 60


@dataclass(frozen=True)
class Login:
    """Credentials as they came: the username, the keyed digest of the password, and the address."""

    username: str
    digest: str
    address: str | None

    @cached_property
    def as_known(self) -> str:
        return counters.key_of("login", self.username, self.digest, self.address)

    @property
    def limits(self) -> dict[str, int]:
        """How many wrong ones a minute has room for, by what they are counted for."""
        limit = settings.API_FAILED_LOGINS_PER_MINUTE
        return {
            counters.key_of("client and address", self.username, self.address): limit,
            counters.key_of("address", self.address): limit * CLIENTS_PER_ADDRESS,
        }


def seconds_to_wait(login: Login) -> int:
    """How long the login is refused unseen, 0 if it may be tried. It asks the memory of this worker alone."""
    if not settings.API_FAILED_LOGINS_PER_MINUTE or login.as_known in cache:
        return 0
    return counters.seconds_left() if cache.get_many(login.limits) else 0


def note_right(login: Login) -> None:
    """Remembers that these credentials are right from this address."""
    if settings.API_FAILED_LOGINS_PER_MINUTE and login.as_known not in cache:
        cache.set(login.as_known, True, REMEMBERED_SECONDS)


def note_wrong(login: Login) -> int:
    """Counts the failure, and returns how long to wait where it was one too many, else 0."""
    if not settings.API_FAILED_LOGINS_PER_MINUTE:
        return 0
    cache.delete(login.as_known)
    limits, seconds = login.limits, counters.seconds_left()
    counts = counters.add(dict.fromkeys(limits, 1))
    closed = [key for key, count in counts.items() if count >= limits[key]]
    cache.set_many(dict.fromkeys(closed, True), seconds)
    return seconds if any(counts[key] > limits[key] for key in closed) else 0
