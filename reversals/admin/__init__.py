"""The pages of the back office that show reversals and make manual ones."""

from reversals.admin import (
    approvals,
    bulk,
    checks,
    correcting,
    corrections,
    customers,
    events,
    exports,
    find,
    home,
    inspect,
    ledger_upload,
    redemptions,
    searches_page,
    tasks,
    webhooks,
)

__all__ = [
    "approvals",
    "bulk",
    "checks",
    "correcting",
    "corrections",
    "customers",
    "events",
    "exports",
    "find",
    "home",
    "inspect",
    "ledger_upload",
    "redemptions",
    "searches_page",
    "tasks",
    "webhooks",
]
