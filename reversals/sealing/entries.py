"""What is sealed of the ledger's history, as text and as its SHA-256; an auditor's own program can compute it anew.

An entry is a reversal with its lines, or a correction. Its text has one line for each row, joined by "\\n" and without
one at the end: a line of a reversal, those of its lines by rising id, or a line of a correction:

    reversal|org_id|id|public_id|redemption_id|customer_id|points_asked|points|points_available|points_expired
        |has_key|channel|client_id|made_by|reason|created_at
    line|org_id|id|reversal_id|draw_id|points|points_available|points_expired|reissued_lot_id
    correction|org_id|id|reversal_id|approval_id|points|made_by|approved_by|reason|created_at

(each on one line, by the names of the columns). Ids are row ids but for `public_id`, points are whole thousandths,
`has_key` is 0 or 1, times are whole microseconds since 1970-01-01 in UTC, and NULL is empty. `made_by`, `approved_by`
and `reason` stand as the SHA-256 of their UTF-8, in lower-case hex: they may hold any character, and a reason may name
a person. An erased reason is `[erased HEX]`, where HEX is that very hash of what it was, and stands as HEX: so a reason
can be erased, and not be changed otherwise. The digest of an entry is the SHA-256 of its text's UTF-8, in lower-case
hex.

The hash of a seal is the SHA-256, in lower-case hex, of lines joined by "\\n" in the same way: first
`seal|NUMBER|SEALED_AT|COUNT|IS_COMPLETE|HASH OF THE SEAL BEFORE` (0 or 1; before seal 1, sixty-four zeros), then the
digests of its COUNT entries in their order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import groupby
from typing import Any

from loyalty.erased import digest_of
from loyalty.selectors import as_datetime

FIRST_PREVIOUS_HASH = "0" * 64

_REVERSAL = (
    *("org_id", "id", "public_id", "redemption_id", "customer_id"),
    *("points_asked", "points", "points_available", "points_expired"),
    *("has_key", "channel", "client_id", "made_by", "reason", "created_at"),
)
_LINE = ("org_id", "id", "reversal_id", "draw_id", "points", "points_available", "points_expired", "reissued_lot_id")
_CORRECTION = (
    *("org_id", "id", "reversal_id", "approval_id", "points"),
    *("made_by", "approved_by", "reason", "created_at"),
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """One piece of history as it stands: `row_id` is the row id of the reversal or correction."""

    row_id: int
    org_id: int
    created_at: datetime
    digest: str


def sql_of_reversals(chosen: str) -> str:
    """The query of the reversals that `chosen` selects, as `id`, each with its lines."""
    columns = ", ".join([*(f"reversal.{name}" for name in _REVERSAL), *(f"line.{name}" for name in _LINE)])
    return (
        f"SELECT {columns} FROM ({chosen}) AS chosen JOIN reversals_reversal reversal ON reversal.id = chosen.id"
        " LEFT JOIN reversals_reversalline line ON line.org_id = reversal.org_id AND line.reversal_id = reversal.id"
        " ORDER BY reversal.id, line.id"
    )


def sql_of_corrections(chosen: str) -> str:
    """The query of the corrections that `chosen` selects, as `id`."""
    columns = ", ".join(f"correction.{name}" for name in _CORRECTION)
    return (
        f"SELECT {columns} FROM ({chosen}) AS chosen JOIN reversals_correction correction"
        " ON correction.id = chosen.id ORDER BY correction.id"
    )


def reversals_of(rows: Iterable[Sequence[Any]]) -> Iterator[Entry]:
    """The entries in the rows of `sql_of_reversals`."""
    width = len(_REVERSAL)
    for reversal, same in groupby(rows, key=lambda row: tuple(row[:width])):
        lines = [_text("line", _LINE, row[width:]) for row in same if row[width] is not None]
        yield _entry(reversal, [_text("reversal", _REVERSAL, reversal), *lines])


def corrections_of(rows: Iterable[Sequence[Any]]) -> Iterator[Entry]:
    """The entries in the rows of `sql_of_corrections`."""
    for correction in rows:
        yield _entry(correction, [_text("correction", _CORRECTION, correction)])


def hash_of_seal(
    *, number: int, sealed_at: datetime, is_complete: bool, previous_hash: str | None, digests: Sequence[str]
) -> str:
    """The hash of a seal over the digests of its entries, in their order; the first seal has none before it."""
    facts = (number, _microseconds(sealed_at), len(digests), int(is_complete), previous_hash or FIRST_PREVIOUS_HASH)
    return _sha256("\n".join(["|".join(["seal", *map(str, facts)]), *digests]))


def _entry(row: Sequence[Any], texts: list[str]) -> Entry:
    return Entry(org_id=row[0], row_id=row[1], created_at=as_datetime(row[-1]), digest=_sha256("\n".join(texts)))


def _text(kind: str, columns: Sequence[str], values: Sequence[Any]) -> str:
    return "|".join([kind, *(_written(name, value) for name, value in zip(columns, values, strict=True))])


def _written(column: str, value: Any) -> str:
    match column:
        case "created_at":
            return str(_microseconds(as_datetime(value)))
        case "reason":
            return digest_of(value)
        case "made_by" | "approved_by":
            return _sha256(value)
        case "has_key":
            return str(int(value))
        case _:
            return "" if value is None else str(value)


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()
