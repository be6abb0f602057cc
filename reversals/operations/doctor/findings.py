"""What a check found."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Status(IntEnum):
    """How bad a finding is. The metrics publish the number."""

    OK = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `expected` and `do` are empty if nothing is wrong. `value` is the number behind it."""

    check: str
    status: Status
    found: str
    expected: str = ""
    do: str = ""
    value: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "status": self.status.name.lower(),
            "found": self.found,
            "expected": self.expected,
            "do": self.do,
            "value": self.value,
        }


def fine(check: str, found: str, *, value: float | None = None) -> Finding:
    return Finding(check, Status.OK, found, value=value)


def warning(check: str, found: str, *, expected: str, do: str, value: float | None = None) -> Finding:
    return Finding(check, Status.WARNING, found, expected, do, value)


def wrong(check: str, found: str, *, expected: str, do: str, value: float | None = None) -> Finding:
    return Finding(check, Status.ERROR, found, expected, do, value)
