"""Seals the history that no seal holds yet, a batch at a time and away from the write path.

Ids and times say nothing of the order in which rows were committed: a transaction may be open across a seal, and clocks
differ. So each sealed row is listed, and a seal takes what is committed and in no list. Whatever is committed late is
in the next seal, whole, because a reversal and its lines become visible together. There is one chain over all orgs: one
head to keep safe, and an org that vanishes is missed as well.
"""

from dataclasses import dataclass
from pathlib import Path

from django.db import connection, transaction
from django.utils import timezone

from loyalty.statements import ROWS_AT_ONCE
from reversals import selectors
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

_UNSEALED = (
    "SELECT id FROM {table} WHERE id > %s AND NOT EXISTS (SELECT 1 FROM reversals_sealedrow sealed"
    " WHERE sealed.kind = %s AND sealed.row_id = {table}.id) ORDER BY id LIMIT %s"
)
_REVERSALS = sql_of_reversals(_UNSEALED.format(table="reversals_reversal"))
_CORRECTIONS = sql_of_corrections(_UNSEALED.format(table="reversals_correction"))


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one run sealed, and the head of the chain after it; no head: nothing was ever sealed."""

    seals: int
    rows: int
    head: Seal | None


def seal_ledger(anchor_file: Path) -> Sealed:
    """Seals all that is committed and unsealed, and appends every seal that the file lacks to it.

    Raises NotPossible, before anything is sealed, if the file contradicts the database.
    """
    seals = rows = 0
    last_reversal = last_correction = 0
    with anchor.opened(anchor_file) as lines:
        lines.append_missing()
        while (sealed := _seal_some(last_reversal, last_correction)) is not None:
            seal, last_reversal, last_correction = sealed
            lines.append_missing()
            seals, rows = seals + 1, rows + seal.count
    return Sealed(seals, rows, Seal.objects.order_by("-id").first())


@transaction.atomic
def _seal_some(after_reversal: int, after_correction: int) -> tuple[Seal, int, int] | None:
    """The next seal, and the last row ids that it holds; None if nothing unsealed has an id above these."""
    previous = selectors.lock_chain()
    sealed_at = timezone.now()
    reversals, corrections = _unsealed(after_reversal, after_correction)
    if not reversals and not corrections:
        return None
    number = 1 if previous is None else previous.id + 1
    is_complete = max(len(reversals), len(corrections)) < ROWS_AT_ONCE
    entries = [*((SealedRow.Kind.REVERSAL, entry) for entry in reversals)]
    entries += ((SealedRow.Kind.CORRECTION, entry) for entry in corrections)
    seal = Seal.objects.create(
        id=number,
        sealed_at=sealed_at,
        count=len(entries),
        is_complete=is_complete,
        hash=hash_of_seal(
            number=number,
            sealed_at=sealed_at,
            is_complete=is_complete,
            previous_hash=previous.hash if previous else None,
            digests=[entry.digest for _, entry in entries],
        ),
    )
    SealedRow.objects.bulk_create(
        (
            SealedRow(
                seal=seal, position=position, kind=kind, row_id=entry.row_id, org_id=entry.org_id, digest=entry.digest
            )
            for position, (kind, entry) in enumerate(entries, start=1)
        ),
        batch_size=ROWS_AT_ONCE,
    )
    return seal, _last_id(reversals, after_reversal), _last_id(corrections, after_correction)


def _unsealed(after_reversal: int, after_correction: int) -> tuple[list[Entry], list[Entry]]:
    with connection.cursor() as cursor:
        cursor.execute(_REVERSALS, [after_reversal, SealedRow.Kind.REVERSAL, ROWS_AT_ONCE])
        reversals = list(reversals_of(cursor))
        cursor.execute(_CORRECTIONS, [after_correction, SealedRow.Kind.CORRECTION, ROWS_AT_ONCE])
        return reversals, list(corrections_of(cursor))


def _last_id(entries: list[Entry], otherwise: int) -> int:
    return entries[-1].row_id if entries else otherwise
