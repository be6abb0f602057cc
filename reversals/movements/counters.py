"""What each worker counts of the calls that it answers, for Prometheus; all workers of a server are summed up."""

import os

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

_COUNTED = CollectorRegistry()

CALLS = Counter(
    "loyalty_calls", "HTTP calls answered. `code` is the ladder's.", ["operation", "status", "code"], registry=_COUNTED
)
SECONDS = Histogram(
    "loyalty_call_seconds",
    "From the first look at a call to its answer.",
    ["operation"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=_COUNTED,
)
REFUSALS = Counter("loyalty_refusals", "Calls that a rule refused.", ["operation", "rule"], registry=_COUNTED)
REPLAYS = Counter("loyalty_replays", "Answers repeated for an idempotency key.", ["operation"], registry=_COUNTED)
MOVEMENTS = Counter(
    "loyalty_movements",
    "Calls to move points, over the API or by hand, dry runs and replays too. Rule and code are empty where accepted.",
    ["operation", "channel", "rule", "code"],
    registry=_COUNTED,
)
RETRIES = Counter(
    "loyalty_transaction_retries",
    "Transactions tried again, by the SQLSTATE that ended them: a deadlock, or a clash of ids, which may have none.",
    ["sqlstate"],
    registry=_COUNTED,
)
LOCK_SECONDS = Histogram(
    "loyalty_lock_seconds",
    "How long a movement took to lock what it moves, the wait for other transactions included.",
    ["operation"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=_COUNTED,
)


def registry() -> CollectorRegistry:
    """What was counted: by all workers that share the folder PROMETHEUS_MULTIPROC_DIR, or by this one alone."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return _COUNTED
    summed = CollectorRegistry()
    MultiProcessCollector(summed)  # type: ignore[no-untyped-call]
    return summed
