"""Defines the text that is sealed for each row, and its SHA-256, so that an auditor's own program can recompute it.

An entry is a row of one of the tables below, for some kinds with its children. Its text has one line for each row:
first the row, then its children in ascending order of id. Lines are joined by "\\n", without one at the end. These are
the kinds in the order in which a seal lists them, with the columns of each line:

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
    MERGE           merge|org_id|id|source_id|target_id|ticket|reason|made_by|made_at
    COVERING        covering|org_id|id|redemption_id|points|reason|made_by|made_at
      its lines     cover|org_id|id|covering_id|draw_id|lot_id|points

The values of a line are written as follows. All hashes are SHA-256 of UTF-8 in lower-case hex.

- Ids are row ids, except `public_id`.
- `customer_id` of a lot or redemption is the customer before any merge: `first_customer_id`, or if that is NULL the
  column `customer_id`.
- A draw is written as before any covering: with `first_position` and `first_points` where they are not NULL, and then
  without `lot_id`. A draw whose `first_points` is 0 was added by a covering and is not written.
- Points are whole thousandths, and flags (`has_key`, `is_reissue`) are 0 or 1.
- Times are whole microseconds since 1970-01-01 in UTC.
- NULL is the empty text.
- Text from outside may hold any character, so it is written as `LENGTH:TEXT`, with its length in characters. Otherwise
  one text could be read as two. These are `lot_ref`, `key`, `old_value`, `new_value`, `ticket`, `request_id`, and in a
  redemption `public_id`, `transaction_number` and `external_reference_number`.
- Columns that can identify a person are written as their hash: `made_by`, `approved_by`, `changed_by` and `reason`.
- An erased reason is stored as `[erased HEX]`, where HEX is the hash of the original reason, and is written as HEX. So
  a reason can be erased, but not changed in any other way.

The digest of an entry is the hash of its text.

Columns that change later are not sealed: `points_remaining` and `points_reissued` of a lot, `points_reversed` of a
redemption and of a draw, and the stored value of a setting. The laws of `reversals.assurance.verification` derive each
of them from sealed columns.

The hash of a seal is the hash of lines joined by "\\n" in the same way: first
`seal|NUMBER|SEALED_AT|COUNT|IS_COMPLETE|HASH OF THE PREVIOUS SEAL`, then the digests of its COUNT entries in order.
IS_COMPLETE is 0 or 1. The previous hash of seal 1 is sixty-four zeros.
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

# The same names recur, and hashing one costs more than a look-up in a cache.
_VALUES_REMEMBERED = 10_000

_ROWS_AT_ONCE = 2_000

# The number of leading columns of a query that are the members of an Entry, without its digest.
_OWN = 4


class Entry(NamedTuple):
    """One entry, computed from the current rows. `row_id` is the id of its first row.

    `written_at` is when this project wrote that row, as the database's text. It is None if the row has no such time, as
    for rows from a file. `import_id` is the import that added the row.
    """

    row_id: int
    org_id: int
    written_at: str | None
    import_id: int | None
    digest: str


class Rows:
    """The lines of one table in a text: the word that begins each line, and the columns in order.

    A column is given as its name, followed by a colon and its form unless it is a whole number. The database formats
    the line in as few result columns ("cells") as possible. Each hashed column is a separate cell, because Python
    hashes it.
    """

    def __init__(self, word: str, table: str, columns: str) -> None:
        self.word, self.table = word, table
        named = [column.partition(":")[::2] for column in columns.split()]
        parts = [(hashed, list(same)) for hashed, same in groupby(named, key=lambda column: column[1] in _HASHED)]
        # The index of each hashed cell, and the function that writes it.
        self._hashes: list[tuple[int, Callable[[Any], str]]] = []
        self._cells: list[list[tuple[str, str]]] = []
        for is_hashed, same in parts:
            for cell in [[column] for column in same] if is_hashed else [same]:
                if is_hashed:
                    self._hashes.append((len(self._cells), _HASHED[cell[0][1]]))
                self._cells.append(cell)

    def cells(self) -> list[str]:
        """Returns the SQL for each cell of a line; the values are joined by "|"."""
        word = self.word
        cells = [
            " || '|' || ".join(_sql(form).format(f"{word}.{name}", word) for name, form in cell) for cell in self._cells
        ]
        return [f"'{self.word}|' || {cells[0]}", *cells[1:]]

    def line(self, cells: Sequence[Any]) -> str:
        """Returns the line of a row whose `cells` have these values."""
        if len(cells) == 1:
            return str(cells[0])
        values = list(cells)
        for place, write in self._hashes:
            values[place] = write(values[place])
        return "|".join(map(str, values))


@dataclass(frozen=True, slots=True)
class EntryKind:
    """One kind of entry.

    `name` is the column that people use to name the row. `time` is the column with the time at which the row was
    written. Note: if an import added the row, that time comes from another system.
    """

    kind: SealedRow.Kind
    row: Rows
    name: str = ""
    time: str = ""
    has_import: bool = False
    children: Rows | None = None
    parent_key: str = ""
    own_children: str = ""

    @property
    def import_id(self) -> str:
        """The SQL for the id of the import that added the row."""
        return f"{self.row.word}.ledger_import_id" if self.has_import else "NULL"

    @property
    def is_unsealed(self) -> str:
        """The SQL condition that no seal lists the row, with a place for the kind.

        A program is compared in another way, because each node of a cluster has all programs and only some seals' rows.
        """
        word = self.row.word
        if self.kind == SealedRow.Kind.PROGRAM:
            return f"({word}.org_id, {word}.id) NOT IN (SELECT org_id, row_id FROM reversals_sealedrow WHERE kind = %s)"
        return (
            f"NOT EXISTS (SELECT 1 FROM reversals_sealedrow sealed WHERE sealed.org_id = {word}.org_id"
            f" AND sealed.kind = %s AND sealed.row_id = {word}.id)"
        )

    @property
    def written_at(self) -> str:
        """The SQL for the time at which this project wrote the row."""
        time = f"{self.row.word}.{self.time}" if self.time else "NULL"
        return f"CASE WHEN {self.import_id} IS NULL THEN {time} END" if self.has_import else time

    def sql(self, chosen: str) -> str:
        """Returns the query for the rows whose org and id are selected by the query `chosen`, with their children."""
        word, children = self.row.word, self.children
        columns = [f"{word}.id", f"{word}.org_id", f"CAST({self.written_at} AS text)", self.import_id]
        columns += self.row.cells()
        joined, order = "", f"{word}.id"
        if children is not None:
            columns += children.cells()
            joined = (
                f" LEFT JOIN {children.table} {children.word} ON {children.word}.org_id = {word}.org_id"
                f" AND {children.word}.{self.parent_key} = {word}.id{self.own_children}"
            )
            order += f", {children.word}.id"
        return (
            f"SELECT {', '.join(columns)} FROM ({chosen}) AS chosen JOIN {self.row.table} {word}"
            f" ON {word}.org_id = chosen.org_id AND {word}.id = chosen.id{joined} ORDER BY {order}"
        )

    def entries_of(self, rows: Iterable[Sequence[Any]]) -> Iterator[Entry]:
        """Yields the entries in the result rows of `sql`."""
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
    """Yields the rows of the last query, fetched in batches of 2,000."""
    return chain.from_iterable(iter(lambda: cursor.fetchmany(_ROWS_AT_ONCE), []))


def hash_of_seal(
    *, number: int, sealed_at: datetime, is_complete: bool, previous_hash: str | None, digests: Sequence[str]
) -> str:
    """Returns the hash of a seal over the digests of its entries, in order. The first seal has no previous hash."""
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

# The SQL that formats a column of each form as text. A time that cannot be converted, such as infinity, is written as
# the database shows it, so that a change to such a value is still detected.
_FORMS = {
    "": "{0}",
    "or_null": "COALESCE(CAST({0} AS text), '')",
    "flag": "CAST({0} AS integer)",
    "first": "COALESCE({1}.first_customer_id, {0})",
    "first_lot": "COALESCE(CAST(CASE WHEN {1}.first_points IS NULL THEN {0} END AS text), '')",
    "first_position": "COALESCE({1}.first_position, {0})",
    "first_points": "COALESCE({1}.first_points, {0})",
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


# To seal another kind, add it here and to the description above. Imports come before the rows that they added, because
# a run that sees an import also sees all of its rows.
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
            "org_id id program_id customer_id:first lot_ref:text points_awarded awarded_at:time expires_at:time"
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
            "org_id id program_id customer_id:first public_id:text points redeemed_at:time transaction_number:text"
            " external_reference_number:text ledger_import_id:or_null",
        ),
        name="public_id",
        time="redeemed_at",
        has_import=True,
        children=Rows(
            "draw",
            "loyalty_draw",
            "org_id id redemption_id lot_id:first_lot position:first_position points:first_points",
        ),
        parent_key="redemption_id",
        own_children=" AND (draw.first_points IS NULL OR draw.first_points > 0)",
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
    EntryKind(
        SealedRow.Kind.MERGE,
        Rows(
            "merge",
            "loyalty_customermerge",
            "org_id id source_id target_id ticket:text reason:erasable made_by:person made_at:time",
        ),
        time="made_at",
    ),
    EntryKind(
        SealedRow.Kind.COVERING,
        Rows(
            "covering",
            "loyalty_covering",
            "org_id id redemption_id points reason:erasable made_by:person made_at:time",
        ),
        time="made_at",
        children=Rows("cover", "loyalty_coveringline", "org_id id covering_id draw_id lot_id points"),
        parent_key="covering_id",
    ),
)
