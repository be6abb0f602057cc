"""The back office's part that looks at reversals and makes them by hand."""

from reversals.admin import (
    approvals,
    bulk,
    checks,
    corrections,
    customers,
    events,
    find,
    home,
    inspect,
    parts,
    redemptions,
)

__all__ = [
    "approvals",
    "bulk",
    "checks",
    "corrections",
    "customers",
    "events",
    "find",
    "home",
    "inspect",
    "parts",
    "redemptions",
]
