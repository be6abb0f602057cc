"""Checks the chain of seals against the ledger and the anchor, and describes each sign of tampering.

Detected in a sealed row: the row is gone, the row or one of its children changed, or a child was added or removed.

Detected in an inserted row, whether or not it has been sealed since:

- The row refers to an import that an earlier run had sealed. All rows of an import are committed together, so that run
  would have sealed this row too.
- The row is dated more than an hour before a seal that left nothing unsealed. This does not apply to rows from a file,
  because their times come from another system. A sealed row counts only if its org had sealed rows by then, because
  earlier versions could import a whole org with its history.

Note: a row that was changed, removed or inserted before it was sealed, with a current date, is not detected here.
`reversals.assurance.verification` finds it if it breaks a law. A forged import, redemption or reversal that keeps every
law cannot be distinguished from a real one, so run seal_ledger often.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from django.db import connection

from loyalty.ledger import queries
from loyalty.ledger.clock import as_datetime
from loyalty.ledger.distribution import read_one_snapshot
from reversals.assurance.sealing import anchor
from reversals.assurance.sealing.entries import KINDS, Entry, EntryKind, hash_of_seal, rows_of
from reversals.models import Seal, SealedRow

PROBLEMS_NAMED = 100
# Longer than any transaction stays open, and more than any clock may be wrong. A row that is dated earlier than this
# before a seal was inserted into the sealed past.
LATEST = timedelta(hours=1)

ENTRIES_AT_ONCE = 50_000

_BY_KIND = {kind.kind.value: kind for kind in KINDS}
_SEALED = "SELECT org_id, row_id AS id FROM reversals_sealedrow WHERE seal_id BETWEEN %s AND %s AND kind = %s"
_LISTED = (
    "SELECT seal_id, kind, row_id, org_id, digest FROM reversals_sealedrow WHERE seal_id BETWEEN %s AND %s"
    " ORDER BY seal_id, position"
)


class _Listed(NamedTuple):
    """An entry as a seal lists it."""

    seal_id: int
    kind: str
    row_id: int
    org_id: int
    digest: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The number of seals checked, and a message for each problem, at most 100."""

    seals: int
    problems: list[str]


def check_seals(anchor_file: Path | None = None) -> Checked:
    """Checks every seal, and also the anchor if its file is given.

    A seal that is missing from the file is not a problem, because the next run of seal_ledger appends it.
    """
    # Reads the file first. A seal is committed before it is appended, so every seal in the file is in the database.
    anchored, unreadable = ([], []) if anchor_file is None else anchor.read(anchor_file)
    with queries.one_snapshot():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = 0")
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                cursor.execute("SET LOCAL work_mem = '64MB'")
                read_one_snapshot(cursor)
        problems = chain(
            unreadable,
            anchor.disagreements(anchored),
            _Chain().problems(),
            _lists_without_seal(),
            _inserted_into_past(),
        )
        return Checked(seals=Seal.objects.count(), problems=list(islice(problems, PROBLEMS_NAMED)))


class _Chain:
    """One walk along the chain, in portions of seals that together list about 50,000 entries."""

    def __init__(self) -> None:
        self.imports = _completed_imports()
        self.previous: Seal | None = None
        self.complete: Seal | None = None  # the last seal so far that left nothing unsealed
        self.listed_orgs: set[int] = set()  # the orgs that the seals so far list
        self.complete_orgs: set[int] = set()  # the same up to the last complete seal

    def problems(self) -> Iterator[str]:
        for seals in _portions():
            entries = _entries_between(seals[0], seals[-1])
            listed = {number: list(rows) for number, rows in groupby(_listed_between(seals[0], seals[-1]), _seal_id)}
            for seal in seals:
                yield from self._broken_seal(seal, listed.get(seal.id, []), entries)

    def _broken_seal(
        self, seal: Seal, rows: Sequence[_Listed], entries: Mapping[tuple[str, int], Entry]
    ) -> Iterator[str]:
        if seal.id != (self.previous.id if self.previous else 0) + 1:
            yield f"seal {seal.id}: the previous seal is gone"
        for row in rows:
            entry = entries.get((row.kind, row.row_id))
            if entry is None:
                yield f"seal {seal.id}: {_named(row)} is gone"
            elif entry.digest != row.digest:
                yield f"seal {seal.id}: {_named(row)} has changed since it was sealed"
            elif entry.written_at is not None or entry.import_id is not None:
                yield from self._inserted_later(seal, row, entry)
        if seal.hash != _hash_of(seal, rows, self.previous) or seal.count != len(rows):
            yield f"seal {seal.id}: its hash does not match its rows and the previous seal"
        self.previous = seal
        self.listed_orgs.update(row.org_id for row in rows)
        if seal.is_complete:
            self.complete, self.complete_orgs = seal, set(self.listed_orgs)

    def _inserted_later(self, seal: Seal, row: _Listed, entry: Entry) -> Iterator[str]:
        """Reports the row if an earlier seal would hold it, had it existed when that seal was created."""
        if entry.import_id is not None:
            completed = self.imports.get(entry.import_id)
            if completed is not None and completed < seal.id:
                yield f"seal {seal.id}: {_named(row)} was added to import {entry.import_id} after seal {completed}"
        elif (
            self.complete is not None
            and row.org_id in self.complete_orgs
            and _is_before(entry.written_at, self.complete)
        ):
            yield f"seal {seal.id}: {_named(row)} is backdated to before seal {self.complete.id}"


_seal_id = itemgetter(0)


def _portions() -> Iterator[list[Seal]]:
    portion: list[Seal] = []
    entries = 0
    for seal in Seal.objects.order_by("id").iterator():
        if portion and entries + seal.count > ENTRIES_AT_ONCE:
            yield portion
            portion, entries = [], 0
        portion.append(seal)
        entries += seal.count
    if portion:
        yield portion


def _listed_between(first: Seal, last: Seal) -> Iterator[_Listed]:
    with connection.cursor() as cursor:
        cursor.execute(_LISTED, [first.id, last.id])
        yield from map(_Listed._make, rows_of(cursor))


def _entries_between(first: Seal, last: Seal) -> dict[tuple[str, int], Entry]:
    """Computes the entries that the seals list from the current rows, by kind and row id."""
    entries: dict[tuple[str, int], Entry] = {}
    with connection.cursor() as cursor:
        for kind in KINDS:
            cursor.execute(kind.sql(_SEALED), [first.id, last.id, kind.kind.value])
            for entry in kind.entries_of(rows_of(cursor)):
                entries[kind.kind.value, entry.row_id] = entry
    return entries


def _completed_imports() -> dict[int, int]:
    """Maps each sealed import to the last seal of the run that sealed it together with all of its rows."""
    complete = list(Seal.objects.filter(is_complete=True).order_by("id").values_list("id", flat=True))
    sealed = SealedRow.objects.filter(kind=SealedRow.Kind.IMPORT).values_list("row_id", "seal_id")
    places_of = ((import_id, bisect_left(complete, seal_id)) for import_id, seal_id in sealed)
    return {import_id: complete[place] for import_id, place in places_of if place < len(complete)}


def _is_before(written_at: str | None, seal: Seal) -> bool:
    try:
        return written_at is not None and as_datetime(written_at) < seal.sealed_at - LATEST
    except ValueError:
        return False


def _hash_of(seal: Seal, rows: Sequence[_Listed], previous: Seal | None) -> str:
    return hash_of_seal(
        number=seal.id,
        sealed_at=seal.sealed_at,
        is_complete=seal.is_complete,
        previous_hash=previous.hash if previous else None,
        digests=[row.digest for row in rows],
    )


def _named(row: _Listed) -> str:
    """Returns the row's kind and id, and the name that people use for it if the row still exists."""
    kind = _BY_KIND.get(row.kind)
    if kind is None:
        return f"{row.kind} {row.row_id} of org {row.org_id}"
    if not kind.name:
        return _described(kind, row.row_id, None, row.org_id)
    with connection.cursor() as cursor:
        found_by = f"SELECT {kind.name} FROM {kind.row.table} WHERE org_id = %s AND id = %s"
        cursor.execute(found_by, [row.org_id, row.row_id])
        found = cursor.fetchone()
    return _described(kind, row.row_id, found and found[0], row.org_id)


def _described(kind: EntryKind, row_id: int, name: object, org_id: int) -> str:
    return f"{kind.kind.label} {row_id}{f' ({name})' if name is not None else ''} of org {org_id}"


def _lists_without_seal() -> Iterator[str]:
    """Reports sealed rows whose seal does not exist, because they would keep the listed rows from being sealed."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sealed.seal_id, COUNT(*) FROM reversals_sealedrow sealed"
            " LEFT JOIN reversals_seal seal ON seal.id = sealed.seal_id WHERE seal.id IS NULL GROUP BY sealed.seal_id"
        )
        for number, count in cursor.fetchall():
            yield f"seal {number} is gone, but {count} sealed {'row refers' if count == 1 else 'rows refer'} to it"


def _inserted_into_past() -> Iterator[str]:
    """Reports unsealed rows that the last complete seal would hold, had they existed when it was created."""
    last = Seal.objects.filter(is_complete=True).order_by("-id").first()
    if last is None:
        return
    imports = _completed_imports()
    for kind in KINDS:
        for org_id, row_id, name, written_at, import_id in _unsealed_before(last, kind):
            what = f"unsealed: {_described(kind, row_id, name, org_id)}"
            if import_id is not None:
                yield f"{what} was added to import {import_id} after seal {imports[import_id]}"
            else:
                yield f"{what} is dated {written_at[:16]}, before seal {last.id}"


def _unsealed_before(seal: Seal, kind: EntryKind) -> list[tuple[Any, ...]]:
    word, conditions = kind.row.word, list[str]()
    params: list[Any] = [kind.kind.value]
    if kind.has_import:
        conditions.append(
            f"EXISTS (SELECT 1 FROM reversals_sealedrow import WHERE import.org_id = {word}.org_id"
            f" AND import.row_id = {kind.import_id} AND import.kind = %s AND import.seal_id <= %s)"
        )
        params += [SealedRow.Kind.IMPORT.value, seal.id]
    if kind.time:
        conditions.append(f"{kind.written_at} < %s")
        params.append(connection.ops.adapt_datetimefield_value(seal.sealed_at - LATEST))
    if not conditions:
        return []
    name = f"{word}.{kind.name}" if kind.name else "NULL"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {word}.org_id, {word}.id, {name}, CAST({kind.written_at} AS text), {kind.import_id}"
            f" FROM {kind.row.table} {word} WHERE {kind.is_unsealed} AND ({' OR '.join(conditions)})",
            params,
        )
        rows: list[tuple[Any, ...]] = cursor.fetchmany(PROBLEMS_NAMED)
        return rows
