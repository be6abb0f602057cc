"""Checks the whole ledger, its laws and its seals, and records the check for the back office."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.db import DatabaseError
from django.utils import timezone

from reversals.assurance.sealing.checking import check_seals
from reversals.assurance.verification import LAWS, broken_laws, record_check, rows_checked

Progress = Callable[[int, int], None]
PARTS = len(LAWS) + 1  # the laws, and the seals


@dataclass(frozen=True, slots=True)
class CheckedLedger:
    """What was checked, by kind of row, and a message for each broken row or seal.

    `unrecorded` is why the check could not be recorded, if it could not.
    """

    checked: dict[str, int]
    broken: list[str]
    unrecorded: str = ""


def check_ledger(
    org_id: int | None = None, *, anchor: Path | None = None, progress: Progress = lambda done, of: None
) -> CheckedLedger:
    """Checks one org, or all orgs and the seals, and records the check.

    Calls `progress` with the number of parts that are done and the number of all parts.
    """
    started_at = timezone.now()
    broken = [str(row) for row in broken_laws(org_id, progress=lambda laws: progress(laws, PARTS))]
    checked = rows_checked(org_id)
    if org_id is None:
        seals = check_seals(anchor)
        broken += seals.problems
        checked["seals"] = seals.seals
    try:
        record_check(org_id=org_id, started_at=started_at, broken_count=len(broken))
    except DatabaseError as error:  # a read-only copy of the database can be checked too
        return CheckedLedger(checked, broken, unrecorded=str(error))
    return CheckedLedger(checked, broken)
