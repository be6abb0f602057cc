"""Counts and times calls for Prometheus, in each worker; the sum over all workers of a server is published."""

import os

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

_COUNTED = CollectorRegistry()

CALLS = Counter(
    "loyalty_calls",
    "HTTP calls answered. `code` is the code of the answer.",
    ["operation", "status", "code"],
    registry=_COUNTED,
)
SECONDS = Histogram(
    "loyalty_call_seconds",
    "Time from the start of a call to its answer.",
    ["operation"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=_COUNTED,
)
REFUSALS = Counter("loyalty_refusals", "Calls that a rule refused.", ["operation", "rule"], registry=_COUNTED)
REPLAYS = Counter("loyalty_replays", "Replies repeated for an idempotency key.", ["operation"], registry=_COUNTED)
MOVEMENTS = Counter(
    "loyalty_movements",
    "Requests to move points, from the API and from staff, with dry runs and replays. Accepted: no rule, no code.",
    ["operation", "channel", "rule", "code"],
    registry=_COUNTED,
)
RETRIES = Counter(
    "loyalty_transaction_retries",
    "Transactions tried again after a deadlock or a clash of ids, by SQLSTATE, which can be empty for a clash.",
    ["sqlstate"],
    registry=_COUNTED,
)
LOCK_SECONDS = Histogram(
    "loyalty_lock_seconds",
    "Time that a movement took to lock its rows, including the wait for other transactions.",
    ["operation"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=_COUNTED,
)


def registry() -> CollectorRegistry:
    """The counters of all workers that share the folder PROMETHEUS_MULTIPROC_DIR; without it, of this worker only."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return _COUNTED
    summed = CollectorRegistry()
    MultiProcessCollector(summed)  # type: ignore[no-untyped-call]
    return summed
