"""Limits the sign-ins of an address, before a password is hashed: how many in a minute, and how many failed ones."""

from axes.models import AccessAttempt
from django.conf import settings
from django.core.cache import cache
from django.db.models import Sum
from django.http import HttpRequest
from django.utils import timezone

from loyalty.clients import counters
from loyalty.clients.addresses import address_of

# The users of an office share an address.
TRIES_PER_MINUTE = 30
# Wrong passwords of all usernames together, within the time for which a username is locked.
FAILURES_OF_AN_ADDRESS = 50


def seconds_to_wait(request: HttpRequest) -> int:
    """Counts this sign-in. Returns the seconds for which sign-ins from its address are refused, or 0.

    While a limit is reached, this worker refuses sign-ins from the address without a database query.
    """
    address = address_of(request)
    if address is None:  # strangers must not share a counter
        return 0
    key, seconds = counters.key_of("sign-in", address), counters.seconds_left()
    if key in cache:
        return seconds
    tries = counters.add({key: 1}).get(key, 0)
    if tries <= TRIES_PER_MINUTE and _failures_of(address) < FAILURES_OF_AN_ADDRESS:
        return 0
    cache.set(key, True, seconds)
    return seconds


def _failures_of(address: str) -> int:
    """Returns how many passwords from this address were wrong lately, whatever the usernames."""
    recent = AccessAttempt.objects.filter(
        ip_address=address, attempt_time__gte=timezone.now() - settings.AXES_COOLOFF_TIME
    )
    return recent.aggregate(count=Sum("failures_since_start"))["count"] or 0
