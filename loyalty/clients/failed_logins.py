"""Limits guesses of API secrets: counts failed logins per minute, by username and address, and by address alone.

Only failed logins are counted, so correct credentials cost nothing. Each worker remembers which limits are reached and
then refuses logins without a database query. So the limit plus one guess per worker can be tried in a minute.
Credentials that were recently correct from an address are never refused at that address. So a guesser who shares a
till's address or username cannot lock the till out.
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
    """The credentials of a request: the username, the keyed digest of the password, and the address."""

    username: str
    digest: str
    address: str | None

    @cached_property
    def as_known(self) -> str:
        return counters.key_of("login", self.username, self.digest, self.address)

    @property
    def limits(self) -> dict[str, int]:
        """The limits of failed logins per minute, by counter key."""
        limit = settings.API_FAILED_LOGINS_PER_MINUTE
        return {
            counters.key_of("client and address", self.username, self.address): limit,
            counters.key_of("address", self.address): limit * CLIENTS_PER_ADDRESS,
        }


def seconds_to_wait(login: Login) -> int:
    """Returns the seconds for which this login is refused, or 0 if it can be tried. Reads this worker's memory only."""
    if not settings.API_FAILED_LOGINS_PER_MINUTE or login.as_known in cache:
        return 0
    return counters.seconds_left() if cache.get_many(login.limits) else 0


def note_success(login: Login) -> None:
    """Remembers that these credentials are correct from this address."""
    if settings.API_FAILED_LOGINS_PER_MINUTE and login.as_known not in cache:
        cache.set(login.as_known, True, REMEMBERED_SECONDS)


def note_failure(login: Login) -> int:
    """Counts the failed login. Returns the seconds to wait if a limit is exceeded, or else 0."""
    if not settings.API_FAILED_LOGINS_PER_MINUTE:
        return 0
    cache.delete(login.as_known)
    limits, seconds = login.limits, counters.seconds_left()
    counts = counters.add(dict.fromkeys(limits, 1))
    closed = [key for key, count in counts.items() if count >= limits[key]]
    cache.set_many(dict.fromkeys(closed, True), seconds)
    return seconds if any(counts[key] > limits[key] for key in closed) else 0
