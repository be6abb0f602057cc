"""Writes points, times and bodies as JSON."""

import json
from datetime import UTC, datetime
from decimal import Decimal

_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def number(points: Decimal) -> float:
    """Points as a JSON number. A float prints all of their at most 15 digits exactly, always with a decimal point."""
    return float(points)


def time_or_none(time: datetime | None) -> str | None:
    """The time in UTC to the second, such as `2026-04-10T00:00:00Z`; None for None."""
    return None if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def written_json(value: object) -> str:
    return _JSON.encode(value)
