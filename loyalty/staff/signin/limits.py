"""Limits the sign-ins of an address, before a password is hashed: how many in a minute, and how many failed ones.

Also limits how many pages an address opens signed out, because one page costs as much CPU time as a till's call.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import Sum
from django.http import HttpRequest
from django.utils import timezone

from loyalty.clients import counters
from loyalty.clients.addresses import address_in, address_of

PAGES, SIGN_IN = "/admin/", "/admin/login/"
# The users of an office share an address.
TRIES_PER_MINUTE = 30
# Wrong passwords of all usernames together, within the time for which a username is locked.
FAILURES_OF_AN_ADDRESS = 50
# Of an address, in each worker.
PAGES_PER_MINUTE = 120
# Further addresses in a minute are not limited, so that strangers cannot fill the memory.
ADDRESSES_KEPT = 10_000


class _Minute:
    """What this worker knows about the addresses of one minute. It needs no lock: a lost count does no harm."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.refused: set[str] = set()  # their sign-ins
        self.pages: Counter[str] = Counter()


_minute = _Minute(0)


def seconds_refused(environ: Mapping[str, Any]) -> int:
    """Returns the seconds for which requests like this are refused, or 0. Reads the WSGI environment alone.

    Counts pages that are opened without a session. Sign-ins are counted by `seconds_to_wait`.
    """
    path: str = environ["PATH_INFO"]
    if not path.startswith(PAGES):
        return 0
    is_sign_in = path == SIGN_IN
    if not is_sign_in and f"{settings.SESSION_COOKIE_NAME}=" in environ.get("HTTP_COOKIE", ""):
        return 0
    address, minute = address_in(environ), _this_minute()
    if address is None:  # strangers must not share a counter
        return 0
    if is_sign_in and environ["REQUEST_METHOD"] == "POST":
        return counters.seconds_left() if address in minute.refused else 0
    if address in minute.pages or len(minute.pages) < ADDRESSES_KEPT:
        minute.pages[address] += 1
    return counters.seconds_left() if minute.pages[address] > PAGES_PER_MINUTE else 0


def seconds_to_wait(request: HttpRequest) -> int:
    """Counts this sign-in. Returns the seconds for which sign-ins from its address are refused, or 0.

    While a limit is reached, `seconds_refused` refuses sign-ins from the address without a database query.
    """
    address = address_of(request)
    if address is None:
        return 0
    tries = counters.add({(key := counters.key_of("sign-in", address)): 1}).get(key, 0)
    if tries <= TRIES_PER_MINUTE and _failures_of(address) < FAILURES_OF_AN_ADDRESS:
        return 0
    minute = _this_minute()
    if len(minute.refused) < ADDRESSES_KEPT:
        minute.refused.add(address)
    return counters.seconds_left()


def _this_minute() -> _Minute:
    global _minute
    number = counters.current_minute()
    if _minute.number != number:
        _minute = _Minute(number)
    return _minute


def _failures_of(address: str) -> int:
    """Returns how many passwords from this address were wrong lately, whatever the usernames."""
    recent = AccessAttempt.objects.filter(
        ip_address=address, attempt_time__gte=timezone.now() - settings.AXES_COOLOFF_TIME
    )
    return recent.aggregate(count=Sum("failures_since_start"))["count"] or 0
