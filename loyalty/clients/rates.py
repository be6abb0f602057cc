"""Limits the calls per minute of each API client, over all workers, without a database query for each call.

Each worker counts calls in memory and adds them to the shared counter in blocks of a twentieth of the limit. So a
client can make all calls of its limit, and exceed it by at most one block per worker. If a block is one call, the
limit is exact. Once the limit is reached, the worker refuses the client's credentials without a database query.
"""

from django.conf import settings
from django.core.cache import cache

from loyalty.clients import counters
from loyalty.clients.callers import Caller

BLOCKS = 20


def seconds_to_wait(*, username: str, digest: str) -> int:
    """Returns the seconds for which these credentials are refused, or 0. Reads this worker's memory only."""
    return counters.seconds_left() if _spent(username, digest) in cache else 0


def note_call(caller: Caller, *, digest: str) -> int:
    """Counts the call. Returns the seconds to wait if the limit is exceeded, or else 0.

    `digest` is the keyed digest of the call's password.
    """
    limit = settings.API_CALLS_PER_MINUTE if caller.calls_per_minute is None else caller.calls_per_minute
    if not limit:
        return 0
    seconds = counters.seconds_left()
    over = f"over.{caller.client_id}.{counters.current_minute()}"
    if over not in cache and not _is_over(caller.client_id, limit, seconds):
        return 0
    cache.set_many(dict.fromkeys((over, _spent(caller.username, digest)), True), seconds)
    return seconds


def _is_over(client_id: int, limit: int, seconds: int) -> bool:
    block = max(1, limit // BLOCKS)
    counted = f"calls.{client_id}.{counters.current_minute()}"
    cache.add(counted, 0, seconds + 1)
    if cache.incr(counted) % block:
        return False
    key = counters.key_of("calls", client_id)
    return counters.add({key: block}).get(key, 0) - block >= limit


def _spent(username: str, digest: str) -> str:
    return counters.key_of("spent", username, digest)
