"""The back office's part that looks at reversals and makes them by hand."""

from reversals.admin import (
    approvals,
    bulk,
    checks,
    correcting,
    corrections,
    customers,
    events,
    find,
    home,
    inspect,
    redemptions,
)

__all__ = [
    "approvals",
    "bulk",
    "checks",
    "correcting",
    "corrections",
    "customers",
    "events",
    "find",
    "home",
    "inspect",
    "redemptions",
]
