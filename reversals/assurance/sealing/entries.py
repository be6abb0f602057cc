"""What is sealed of the ledger, as text and as its SHA-256; an auditor's own program can compute it anew.

An entry is a row of one of the tables below, some with their children. Its text has one line for each row, joined by
"\\n" and without one at the end: first the row, then its children by rising id. The kinds, in the order in which a seal
takes them, each on one line, by the names of the columns:

    IMPORT          import|org_id|id|imported_at|made_by|lots_added|points_awarded|redemptions_added|points_redeemed
    LOT             lot|org_id|id|program_id|customer_id|lot_ref|points_awarded|awarded_at|expires_at|is_reissue
                        |ledger_import_id
    REDEMPTION      redemption|org_id|id|program_id|customer_id|public_id|points|redeemed_at|transaction_number
                        |external_reference_number|ledger_import_id
      its draws     draw|org_id|id|redemption_id|lot_id|position|points
    REVERSAL        reversal|org_id|id|public_id|redemption_id|customer_id|points_asked|points|points_available
                        |points_expired|has_key|channel|client_id|made_by|reason|created_at
      its lines     line|org_id|id|reversal_id|draw_id|points|points_available|points_expired|reissued_lot_id
    CORRECTION      correction|org_id|id|reversal_id|approval_id|points|made_by|approved_by|reason|created_at
    SETTING_CHANGE  setting|org_id|id|program_id|key|old_value|new_value|ticket|reason|changed_by|changed_at|request_id
    CUSTOMER        customer|org_id|id|public_id
    PROGRAM         program|org_id|id|public_id

Ids are row ids but for `public_id`, points are whole thousandths, flags (`has_key`, `is_reissue`) are 0 or 1, times are
whole microseconds since 1970-01-01 in UTC, and NULL is empty. Texts from outside may hold any character. Each stands as
`LENGTH:TEXT`, its length in characters before it, so that it cannot be read as two: `lot_ref`, `key`, `old_value`,
`new_value`, `ticket`, `request_id`, and of a redemption `public_id`, `transaction_number`, `external_reference_number`.
What names a person stands as the SHA-256 of its UTF-8, in lower-case hex: `made_by`, `approved_by`, `changed_by`,
`reason`. An erased reason is `[erased HEX]`, where HEX is that very hash of what it was, and stands as HEX: so a reason
can be erased, and not be changed otherwise. The digest of an entry is the SHA-256 of its text's UTF-8, in lower-case
hex.

What changes later is not sealed: `points_remaining` and `points_reissued` of a lot, `points_reversed` of a redemption
and of a draw, and the stored value of a setting. The laws of `reversals.assurance.verification` derive each from what
is sealed.

The hash of a seal is the SHA-256, in lower-case hex, of lines joined by "\\n" in the same way: first
`seal|NUMBER|SEALED_AT|COUNT|IS_COMPLETE|HASH OF THE SEAL BEFORE` (0 or 1; before seal 1, sixty-four zeros), then the
digests of its COUNT entries in their order.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, NamedTuple

from django.db import connection

from loyalty.privacy.erased import digest_of
from reversals.models import SealedRow

FIRST_PREVIOUS_HASH = "0" * 64

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# Names come again and again, and to hash one costs more than to remember it.
_VALUES_REMEMBERED = 10_000

_ROWS_AT_ONCE = 2_000

# The first columns of a query: the members of an Entry but for its digest.
_OWN = 4


class Entry(NamedTuple):
    """One entry as it stands. `row_id` is the id of its first row.

    `written_at` is when that row was written by the clock of this project, as the database's text; None where the row
    does not say, as one from a file. `import_id` is the import that brought it.
    """

    row_id: int
    org_id: int
    written_at: str | None
    import_id: int | None
    digest: str


class Rows:
    """The rows of one table in a text: the word that begins each line, and the columns in their order.

    A column is its name, and after a colon its form where that is not a whole number. The database writes the line, in
    as few cells as there can be; what is hashed is a cell of its own.
    """

    def __init__(self, word: str, table: str, columns: str) -> None:
        self.word, self.table = word, table
        named = [column.partition(":")[::2] for column in columns.split()]
        parts = [(hashed, list(same)) for hashed, same in groupby(named, key=lambda column: column[1] in _HASHED)]
        # By the place of its cell, how each hashed column is written.
        self._hashes: list[tuple[int, Callable[[Any], str]]] = []
        self._cells: list[list[tuple[str, str]]] = []
        for is_hashed, same in parts:
            for cell in [[column] for column in same] if is_hashed else [same]:
                if is_hashed:
                    self._hashes.append((len(self._cells), _HASHED[cell[0][1]]))
                self._cells.append(cell)

    def cells(self) -> list[str]:
        """SQL for the parts of a line, to be joined by "|"."""
        cells = [
            " || '|' || ".join(_sql(form).format(f"{self.word}.{name}") for name, form in cell) for cell in self._cells
        ]
        return [f"'{self.word}|' || {cells[0]}", *cells[1:]]

    def line(self, cells: Sequence[Any]) -> str:
        """The line of a row with these values of `cells`."""
        if len(cells) == 1:
            return str(cells[0])
        values = list(cells)
        for place, write in self._hashes:
            values[place] = write(values[place])
        return "|".join(map(str, values))


@dataclass(frozen=True, slots=True)
class EntryKind:
    """One kind of entry.

    `name` is the column by which people know the row, `time` the column that says when it was written. Where an import
    brought the row, its time is that of another system.
    """

    kind: SealedRow.Kind
    row: Rows
    name: str = ""
    time: str = ""
    has_import: bool = False
    children: Rows | None = None
    parent_key: str = ""

    @property
    def import_id(self) -> str:
        """SQL for the id of the import that brought the row."""
        return f"{self.row.word}.ledger_import_id" if self.has_import else "NULL"

    @property
    def written_at(self) -> str:
        """SQL for when the row was written."""
        time = f"{self.row.word}.{self.time}" if self.time else "NULL"
        return f"CASE WHEN {self.import_id} IS NULL THEN {time} END" if self.has_import else time

    def sql(self, chosen: str) -> str:
        """The query of the rows that `chosen` selects, as `id`, each with its children."""
        word, children = self.row.word, self.children
        columns = [f"{word}.id", f"{word}.org_id", f"CAST({self.written_at} AS text)", self.import_id]
        columns += self.row.cells()
        joined, order = "", f"{word}.id"
        if children is not None:
            columns += children.cells()
            joined = (
                f" LEFT JOIN {children.table} {children.word} ON {children.word}.org_id = {word}.org_id"
                f" AND {children.word}.{self.parent_key} = {word}.id"
            )
            order += f", {children.word}.id"
        return (
            f"SELECT {', '.join(columns)} FROM ({chosen}) AS chosen JOIN {self.row.table} {word}"
            f" ON {word}.id = chosen.id{joined} ORDER BY {order}"
        )

    def entries_of(self, rows: Iterable[Sequence[Any]]) -> Iterator[Entry]:
        """The entries in the rows of `sql`."""
        row_line, end = self.row.line, _OWN + len(self.row.cells())
        if self.children is None:
            for row in rows:
                yield Entry._make((*row[:_OWN], _sha256(row_line(row[_OWN:]))))
            return
        child_line = self.children.line
        for own, same in groupby(rows, key=itemgetter(slice(0, end))):
            lines = [row_line(own[_OWN:]), *(child_line(row[end:]) for row in same if row[end] is not None)]
            yield Entry._make((*own[:_OWN], _sha256("\n".join(lines))))


def rows_of(cursor: Any) -> Iterator[Sequence[Any]]:
    """The rows of the last query, fetched some thousands at a time."""
    return chain.from_iterable(iter(lambda: cursor.fetchmany(_ROWS_AT_ONCE), []))


def hash_of_seal(
    *, number: int, sealed_at: datetime, is_complete: bool, previous_hash: str | None, digests: Sequence[str]
) -> str:
    """The hash of a seal over the digests of its entries, in their order; the first seal has none before it."""
    facts = (number, _microseconds(sealed_at), len(digests), int(is_complete), previous_hash or FIRST_PREVIOUS_HASH)
    return _sha256("\n".join(["|".join(["seal", *map(str, facts)]), *digests]))


@lru_cache(_VALUES_REMEMBERED)
def _hash(text: object) -> str:
    return "" if text is None else _sha256(str(text))


def _hash_even_if_erased(text: object) -> str:
    return "" if text is None else digest_of(str(text))


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()


_HASHED: dict[str, Callable[[Any], str]] = {"person": _hash, "erasable": _hash_even_if_erased}

# SQL that writes a column of each form as text. A time that no calendar has stands as the database has it, so that the
# change is seen.
_FORMS = {
    "": "{0}",
    "or_null": "COALESCE(CAST({0} AS text), '')",
    "flag": "CAST({0} AS integer)",
    "text": "COALESCE(LENGTH({0}) || ':' || {0}, '')",
}
_TIME = {
    "postgresql": (
        "COALESCE(CASE WHEN isfinite({0}) THEN CAST(CAST(EXTRACT(EPOCH FROM {0}) * 1000000 AS bigint) AS text)"
        " ELSE CAST({0} AS text) END, '')"
    ),
    "sqlite": (
        "COALESCE(CAST(CAST(strftime('%%s', {0}) AS integer) * 1000000"
        " + CASE WHEN length({0}) = 26 THEN CAST(substr({0}, 21) AS integer) ELSE 0 END AS text),"
        " CAST({0} AS text), '')"
    ),
}


def _sql(form: str) -> str:
    return _TIME[connection.vendor] if form == "time" else _FORMS.get(form, "{0}")


# One entry here, and the same text in the description above, seal one more kind. Imports come before what they brought:
# whichever seal run sees an import sees all of its rows.
KINDS = (
    EntryKind(
        SealedRow.Kind.IMPORT,
        Rows(
            "import",
            "loyalty_ledgerimport",
            "org_id id imported_at:time made_by:person lots_added points_awarded redemptions_added points_redeemed",
        ),
        time="imported_at",
    ),
    EntryKind(
        SealedRow.Kind.LOT,
        Rows(
            "lot",
            "loyalty_lot",
            "org_id id program_id customer_id lot_ref:text points_awarded awarded_at:time expires_at:time"
            " is_reissue:flag ledger_import_id:or_null",
        ),
        name="lot_ref",
        time="awarded_at",
        has_import=True,
    ),
    EntryKind(
        SealedRow.Kind.REDEMPTION,
        Rows(
            "redemption",
            "loyalty_redemption",
            "org_id id program_id customer_id public_id:text points redeemed_at:time transaction_number:text"
            " external_reference_number:text ledger_import_id:or_null",
        ),
        name="public_id",
        time="redeemed_at",
        has_import=True,
        children=Rows("draw", "loyalty_draw", "org_id id redemption_id lot_id:or_null position points"),
        parent_key="redemption_id",
    ),
    EntryKind(
        SealedRow.Kind.REVERSAL,
        Rows(
            "reversal",
            "reversals_reversal",
            "org_id id public_id redemption_id customer_id points_asked:or_null points points_available points_expired"
            " has_key:flag channel client_id:or_null made_by:person reason:erasable created_at:time",
        ),
        name="public_id",
        time="created_at",
        children=Rows(
            "line",
            "reversals_reversalline",
            "org_id id reversal_id draw_id points points_available points_expired reissued_lot_id:or_null",
        ),
        parent_key="reversal_id",
    ),
    EntryKind(
        SealedRow.Kind.CORRECTION,
        Rows(
            "correction",
            "reversals_correction",
            "org_id id reversal_id approval_id points made_by:person approved_by:person reason:erasable"
            " created_at:time",
        ),
        time="created_at",
    ),
    EntryKind(
        SealedRow.Kind.SETTING_CHANGE,
        Rows(
            "setting",
            "loyalty_emfchange",
            "org_id id program_id:or_null key:text old_value:text new_value:text ticket:text reason:erasable"
            " changed_by:person changed_at:time request_id:text",
        ),
        name="key",
        time="changed_at",
    ),
    EntryKind(SealedRow.Kind.CUSTOMER, Rows("customer", "loyalty_customer", "org_id id public_id"), name="public_id"),
    EntryKind(SealedRow.Kind.PROGRAM, Rows("program", "loyalty_program", "org_id id public_id"), name="public_id"),
)
