"""How points, times and whole bodies are written as JSON."""

import json
from datetime import UTC, datetime
from decimal import Decimal

_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def number(points: Decimal) -> float:
    """Points as a JSON number. At most 15 digits: as a float it prints those very digits, always with a point."""
    return float(points)


def time_or_none(time: datetime | None) -> str | None:
    """A time in UTC to the second, `2026-04-10T00:00:00Z`."""
    return None if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def written_json(value: object) -> str:
    return _JSON.encode(value)
