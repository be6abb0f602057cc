"""Limits the calls of each API client by the minute, over all workers, without a round trip for each call.

A worker counts in its memory and adds its count to the shared one a block at a time, a twentieth of the limit. So a
client gets its whole limit, and over it at most one block for each worker; where a block is one call, the limit
is exact. Once it is spent, the worker refuses the client's credentials before the database is asked.
"""

from django.conf import settings
from django.core.cache import cache

from loyalty.clients import counters
from loyalty.clients.callers import Caller

BLOCKS = 20


def seconds_to_wait(*, username: str, digest: str) -> int:
    """How long these credentials are refused unseen, 0 if they may call. It asks the memory of this worker alone."""
    return counters.seconds_left() if _spent(username, digest) in cache else 0


def note_call(caller: Caller, *, digest: str) -> int:
    """Counts the call, and returns how long to wait where it is one too many, else 0.

    `digest` is the keyed digest of the password that it came with.
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
