"""Seals what no seal holds yet, away from the write path.

Ids and times say nothing of the order in which rows were committed: a transaction may be open across a seal, and clocks
differ. So each sealed entry is listed, and a run takes what is committed when it begins and in no list. Whatever is
committed late is in the next run, whole, because a row and its children become visible together. A run is one
transaction with one view of the ledger: it seals all that it sees, in seals of 50,000 entries, so that memory stays
small. There is one chain over all orgs: one head to keep safe, and an org that vanishes is missed as well.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from django.db import connection, transaction

from loyalty.fields import new_row_ids
from loyalty.importing.bulk import analyze, rows_into
from loyalty.ledger.clock import database_now
from reversals.assurance.sealing import anchor
from reversals.assurance.sealing.entries import KINDS, Entry, EntryKind, hash_of_seal, rows_of
from reversals.models import Seal, SealedRow

ENTRIES_AT_ONCE = 50_000

_BEFORE_EVERY_ID = -(2**63)
_UNSEALED = (
    "SELECT id FROM {table} WHERE id > %s AND NOT EXISTS (SELECT 1 FROM reversals_sealedrow sealed"
    " WHERE sealed.kind = %s AND sealed.row_id = {table}.id) ORDER BY id LIMIT %s"
)
_COLUMNS = "id, org_id, seal_id, position, kind, row_id, digest"


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one run sealed, and the head of the chain after it; no head: nothing was ever sealed.

    `rows` counts entries: a redemption with its draws is one, and so is a reversal with its lines.
    """

    seals: int
    rows: int
    head: Seal | None


def seal_ledger(anchor_file: Path) -> Sealed:
    """Seals all that is committed and unsealed, and appends every seal that the file lacks to it.

    Raises InvalidOperation, before anything is sealed, if the file contradicts the database.
    """
    with anchor.opened(anchor_file) as lines:
        lines.append_missing()
        seals = _seal_everything()
        lines.append_missing()
    return Sealed(len(seals), sum(seal.count for seal in seals), Seal.objects.order_by("-id").first())


def _seal_everything() -> list[Seal]:
    """The new seals. The last of them is complete: nothing that the run saw is left unsealed."""
    seals: list[Seal] = []
    with _one_view_of_the_ledger():
        previous = lock_chain()
        unsealed = _unsealed()
        batch = list(islice(unsealed, ENTRIES_AT_ONCE))
        while batch:
            following = list(islice(unsealed, ENTRIES_AT_ONCE))
            previous = _seal(batch, previous, is_complete=not following)
            seals.append(previous)
            batch = following
        if len(seals) > 1:
            with connection.cursor() as cursor:
                analyze(cursor, "reversals_sealedrow")
    return seals


@contextmanager
def _one_view_of_the_ledger() -> Iterator[None]:
    """A transaction in which each statement sees what was committed before the first that reads.

    SQLite has one writer at a time by itself. Inside a transaction of the caller it changes nothing.
    """
    is_outermost = not connection.in_atomic_block
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                if is_outermost:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                cursor.execute("SET LOCAL lock_timeout = '60s'")  # another run may be under way
                cursor.execute("SET LOCAL work_mem = '64MB'")
        yield


def _seal(entries: Sequence[tuple[EntryKind, Entry]], previous: Seal | None, *, is_complete: bool) -> Seal:
    """Adds the seal after `previous`, and lists its entries."""
    number = 1 if previous is None else previous.id + 1
    sealed_at = database_now()
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
    with connection.cursor() as cursor, rows_into(cursor, SealedRow._meta.db_table, _COLUMNS) as add:
        for row_id, position, (kind, entry) in zip(new_row_ids(len(entries)), count(1), entries, strict=False):
            add((row_id, entry.org_id, number, position, kind.kind.value, entry.row_id, entry.digest))
    return seal


def _unsealed() -> Iterator[tuple[EntryKind, Entry]]:
    """What no seal holds, kind by kind and by rising id."""
    for kind in KINDS:
        last = _BEFORE_EVERY_ID
        while portion := _unsealed_portion(kind, after=last):
            yield from ((kind, entry) for entry in portion)
            last = portion[-1].row_id


def _unsealed_portion(kind: EntryKind, *, after: int) -> list[Entry]:
    with connection.cursor() as cursor:
        chosen = _UNSEALED.format(table=kind.row.table)
        cursor.execute(kind.sql(chosen), [after, kind.kind.value, ENTRIES_AT_ONCE])
        return list(kind.entries_of(rows_of(cursor)))


def lock_chain() -> Seal | None:
    """Keeps others from sealing until the transaction ends, and returns the last seal; None if it does not exist.

    SQLite has one writer at a time by itself. Whoever reads the chain does not wait.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # The limit of a request does not fit a look for what is unsealed.
            cursor.execute("SET LOCAL statement_timeout = 0")
            cursor.execute("LOCK TABLE reversals_seal IN EXCLUSIVE MODE")
    return Seal.objects.order_by("-id").first()
