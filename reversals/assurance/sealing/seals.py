"""Seals all unsealed rows of the ledger, outside the write path.

Ids and times do not show the order in which rows were committed, because a transaction may be open across a seal and
clocks differ. So each seal lists its entries, and a run seals the rows that are committed when it begins and that no
seal lists. A row that is committed later is sealed by the next run, together with its children, because they become
visible together.

A run is one transaction with one snapshot of the ledger. It seals all rows that it sees, in seals of 50,000 entries to
limit memory. One chain covers all orgs. So there is one head to keep safe, and the loss of a whole org is detected too.
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
from loyalty.ledger.distribution import read_one_snapshot
from reversals.assurance.sealing import anchor
from reversals.assurance.sealing.entries import KINDS, Entry, EntryKind, hash_of_seal, rows_of
from reversals.models import Seal, SealedRow

ENTRIES_AT_ONCE = 50_000

_BEFORE_EVERY_ID = -(2**63)
_UNSEALED = "SELECT org_id, id FROM {table} {word} WHERE id > %s AND {is_unsealed} ORDER BY id LIMIT %s"
_COLUMNS = "id, org_id, seal_id, position, kind, row_id, digest"


@dataclass(frozen=True, slots=True)
class Sealed:
    """The number of seals and rows of one run, and the head of the chain after it; None if nothing is sealed.

    `rows` counts entries: a redemption with its draws is one entry, and so is a reversal with its lines.
    """

    seals: int
    rows: int
    head: Seal | None


def seal_ledger(anchor_file: Path, *, take_over: bool = False) -> Sealed:
    """Seals all committed, unsealed rows, and appends every missing seal to the anchor file.

    Raises InvalidOperation before sealing anything if the file contradicts the database, or belongs to another database
    and `take_over` is false.
    """
    with anchor.opened(anchor_file, take_over=take_over) as lines:
        lines.append_missing()
        seals = _seal_everything()
        lines.append_missing()
    return Sealed(len(seals), sum(seal.count for seal in seals), Seal.objects.order_by("-id").first())


def _seal_everything() -> list[Seal]:
    """Creates and returns the new seals. The last one is complete: the run left no row that it saw unsealed."""
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
    """Opens a transaction in which every statement sees the same snapshot, taken by the first statement that reads.

    SQLite needs no setting, because it allows one writer at a time. Within a transaction of the caller, the isolation
    level stays as it is.
    """
    is_outermost = not connection.in_atomic_block
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                if is_outermost:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                cursor.execute("SET LOCAL lock_timeout = '60s'")  # another run may be in progress
                cursor.execute("SET LOCAL work_mem = '64MB'")
                read_one_snapshot(cursor)
        yield


def _seal(entries: Sequence[tuple[EntryKind, Entry]], previous: Seal | None, *, is_complete: bool) -> Seal:
    """Creates the seal after `previous`, and lists its entries."""
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
    """Yields the unsealed entries, kind by kind in ascending order of id."""
    for kind in KINDS:
        last = _BEFORE_EVERY_ID
        while portion := _unsealed_portion(kind, after=last):
            yield from ((kind, entry) for entry in portion)
            last = portion[-1].row_id


def _unsealed_portion(kind: EntryKind, *, after: int) -> list[Entry]:
    with connection.cursor() as cursor:
        chosen = _UNSEALED.format(table=kind.row.table, word=kind.row.word, is_unsealed=kind.is_unsealed)
        cursor.execute(kind.sql(chosen), [after, kind.kind.value, ENTRIES_AT_ONCE])
        return list(kind.entries_of(rows_of(cursor)))


def lock_chain() -> Seal | None:
    """Locks the chain against other runs until the transaction ends, and returns the last seal, or None.

    Readers of the chain do not wait. SQLite needs no lock, because it allows one writer at a time.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # The time limit of a request is too short for a search for unsealed rows.
            cursor.execute("SET LOCAL statement_timeout = 0")
            cursor.execute("LOCK TABLE reversals_seal IN EXCLUSIVE MODE")
    return Seal.objects.order_by("-id").first()
