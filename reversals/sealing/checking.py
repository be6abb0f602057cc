"""Checks the chain of seals against the history and the anchor, and names in sentences what was tampered with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any

from django.db import connection

from loyalty import reading
from loyalty.moves import arrivals
from loyalty.selectors import as_datetime
from loyalty.statements import places
from reversals.models import Seal, SealedRow
from reversals.sealing import anchor
from reversals.sealing.entries import (
    Entry,
    corrections_of,
    hash_of_seal,
    reversals_of,
    sql_of_corrections,
    sql_of_reversals,
)

PROBLEMS_NAMED = 100
# No transaction is open for so long, and no clock may be so wrong: what is dated earlier was put into the sealed past.
LATEST = timedelta(hours=1)

_SEALED = "SELECT row_id AS id FROM reversals_sealedrow WHERE seal_id = %s AND kind = %s"
_REVERSALS = sql_of_reversals(_SEALED)
_CORRECTIONS = sql_of_corrections(_SEALED)


@dataclass(frozen=True, slots=True)
class Checked:
    """How many seals were checked, and what is wrong, in sentences; at most 100 of them."""

    seals: int
    problems: list[str]


def check_seals(anchor_file: Path | None = None) -> Checked:
    """Checks every seal, and the anchor where its file is given.

    A seal that the file lacks is no fault: the next run of seal_ledger appends it.
    """
    # The file first: a seal is committed before it is appended, so whatever the file has is in the database by then.
    anchored, unreadable = ([], []) if anchor_file is None else anchor.read(anchor_file)
    with reading.one_moment():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = 0")
        problems = chain(unreadable, anchor.contradictions(anchored), _broken_chain(), _astray(), _dated_back())
        return Checked(seals=Seal.objects.count(), problems=list(islice(problems, PROBLEMS_NAMED)))


def _broken_chain() -> Iterator[str]:
    previous = complete = None
    arrived = arrivals()
    for seal in Seal.objects.order_by("id"):
        if seal.id != (previous.id if previous else 0) + 1:
            yield f"seal {seal.id}: the seal before it is gone"
        rows = list(SealedRow.objects.filter(seal=seal).order_by("position"))
        yield from _broken_rows(seal, rows, complete, arrived)
        if seal.hash != _hash_of(seal, rows, previous) or seal.count != len(rows):
            yield f"seal {seal.id}: its hash is not that of its rows and of the seal before it"
        previous, complete = seal, seal if seal.is_complete else complete


def _broken_rows(
    seal: Seal, rows: list[SealedRow], complete: Seal | None, arrived: Mapping[int, datetime]
) -> Iterator[str]:
    """The rows that are not as they were sealed; `complete` is the last seal before that left nothing unsealed."""
    entries = _entries_of(seal)
    for row in rows:
        entry = entries.get((row.kind, row.row_id))
        if entry is None:
            yield f"seal {seal.id}: {row} is gone"
        elif entry.digest != row.digest:
            yield f"seal {seal.id}: {row} is not as it was sealed"
        elif complete is not None and _could_see(complete, row.org_id, arrived) and _is_before(entry, complete):
            yield f"seal {seal.id}: {row} is dated back, to before seal {complete.id}"


def _could_see(seal: Seal, org_id: int, arrived: Mapping[int, datetime]) -> bool:
    """Whether the org was in this cell by then: what it brought along is older than seals that never saw it."""
    return org_id not in arrived or arrived[org_id] <= seal.sealed_at


def _is_before(entry: Entry, seal: Seal) -> bool:
    return entry.created_at < seal.sealed_at - LATEST


def _hash_of(seal: Seal, rows: list[SealedRow], previous: Seal | None) -> str:
    return hash_of_seal(
        number=seal.id,
        sealed_at=seal.sealed_at,
        is_complete=seal.is_complete,
        previous_hash=previous.hash if previous else None,
        digests=[row.digest for row in rows],
    )


def _entries_of(seal: Seal) -> dict[tuple[str, int], Entry]:
    """What the seal lists, as it stands now, by kind and row id."""
    with connection.cursor() as cursor:
        cursor.execute(_REVERSALS, [seal.id, SealedRow.Kind.REVERSAL])
        entries = {(str(SealedRow.Kind.REVERSAL), entry.row_id): entry for entry in reversals_of(cursor)}
        cursor.execute(_CORRECTIONS, [seal.id, SealedRow.Kind.CORRECTION])
        return entries | {(str(SealedRow.Kind.CORRECTION), entry.row_id): entry for entry in corrections_of(cursor)}


def _astray() -> Iterator[str]:
    """Lists of no seal would keep what they list from ever being sealed."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sealed.seal_id, COUNT(*) FROM reversals_sealedrow sealed"
            " LEFT JOIN reversals_seal seal ON seal.id = sealed.seal_id WHERE seal.id IS NULL GROUP BY sealed.seal_id"
        )
        for number, count in cursor.fetchall():
            yield f"seal {number} is gone; {count} rows were sealed by it"


def _dated_back() -> Iterator[str]:
    """Unsealed rows that are too old not to have been seen by the last seal that left nothing unsealed."""
    last = Seal.objects.filter(is_complete=True).order_by("-id").first()
    if last is None:
        return
    for kind, table in (("reversal", "reversals_reversal"), ("correction", "reversals_correction")):
        for org_id, row_id, created_at in _unsealed_before(last, kind.upper(), table):
            yield f"unsealed: {kind} {row_id} of org {org_id} is dated {as_datetime(created_at):%Y-%m-%d %H:%M}," + (
                f" to before seal {last.id}"
            )


def _unsealed_before(seal: Seal, kind: str, table: str) -> list[tuple[int, int, Any]]:
    arrived = arrivals()
    unseen = [org_id for org_id in arrived if not _could_see(seal, org_id, arrived)]
    seen = f"AND org_id NOT IN ({places(unseen)})" if unseen else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT org_id, id, created_at FROM {table} WHERE created_at < %s AND NOT EXISTS (SELECT 1"
            f" FROM reversals_sealedrow sealed WHERE sealed.kind = %s AND sealed.row_id = {table}.id) {seen}",
            [connection.ops.adapt_datetimefield_value(seal.sealed_at - LATEST), kind, *unseen],
        )
        rows: list[tuple[int, int, Any]] = cursor.fetchmany(PROBLEMS_NAMED)
        return rows
