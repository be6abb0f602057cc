"""The back office's part that looks at reversals and makes them by hand."""

from reversals.admin import customers, events, inspect, redemptions

__all__ = ["customers", "events", "inspect", "redemptions"]
