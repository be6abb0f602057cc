"""Imports ledger files: stages them in bulk, checks them in the database, and replays redemptions in order of time.

Rows are staged in tables of the import, so that memory does not grow with the files. The import is one transaction:
without `skip_bad`, a single bad row rolls back everything.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter
from pathlib import Path

from django.db import connection, transaction
from django.utils import timezone

from loyalty.fields import new_row_id
from loyalty.importing.bulk import ROWS_AT_ONCE, analyze, rows_into
from loyalty.importing.earlier_names import EarlierNames
from loyalty.importing.files import BadRow, LedgerFile, Row, find_files
from loyalty.importing.replay import Uncovered, replay
from loyalty.importing.stages import (
    BAD,
    CHECKS,
    CIRCULAR_MERGES,
    EXISTING,
    FOLLOW_MERGES,
    INSERTS,
    MERGES,
    NEW,
    ORGS_OF_NEW,
    RECORD_IMPORTS,
    STAGE_INDEXES,
    STAGED_COLUMNS,
    STAGES,
    SUMS_OF_NEW,
    Check,
    lock_owners,
)
from loyalty.ledger.distribution import is_distributed
from loyalty.ledger.identifiers import IdentifierType, storable
from loyalty.models import Org, Program

BAD_ROWS_NAMED = 20

# Called with a step of the import, how much of it is done, and its total.
Progress = Callable[[str, int, int], None]

_IDENTIFIERS = {
    "mobile": IdentifierType.MOBILE,
    "email": IdentifierType.EMAIL,
    "external_id": IdentifierType.EXTERNAL_ID,
    "card_number": IdentifierType.CARD_NUMBER,
}


class ImportRefused(ValueError):
    """Nothing was imported. The message lists the bad rows."""


@dataclass
class FileSummary:
    """The rows of one file, counted by result."""

    read: int = 0
    added: int = 0
    already_there: int = 0
    bad: int = 0


@dataclass
class ImportSummary:
    """The result of an import."""

    files: dict[str, FileSummary] = field(default_factory=dict)
    bad_rows: list[BadRow] = field(default_factory=list)
    uncovered: Uncovered = field(default_factory=Uncovered)

    def name_bad_row(self, bad: BadRow) -> None:
        if len(self.bad_rows) < BAD_ROWS_NAMED:
            self.bad_rows.append(bad)


def import_ledger(
    folder: Path, *, made_by: str, skip_bad: bool, dry_run: bool, progress: Progress, more_checks: Sequence[Check] = ()
) -> ImportSummary:
    """Imports `customers`, `points` and `redemptions` (.csv or .csv.gz) from the folder, as far as they exist.

    Records for each org what was added, and `made_by` as the user who ran the import. `more_checks` are checks of
    tables outside this app. Raises LedgerFileError if a file cannot be read, and ImportRefused for bad rows without
    `skip_bad`. In both cases, and after a dry run, nothing is imported.
    """
    files = find_files(folder)
    if not files:
        raise ImportRefused(f"{folder} contains no customers.csv, points.csv or redemptions.csv (or .csv.gz)")
    with transaction.atomic():
        summary = _Import(files, made_by, progress).run((*CHECKS, *more_checks), skip_bad=skip_bad)
        transaction.set_rollback(dry_run)
    return summary


class _Import:
    def __init__(self, files: dict[str, LedgerFile], made_by: str, progress: Progress) -> None:
        self.files = files
        self.made_by = made_by
        self.progress = progress
        self.schema = ""  # of the staging tables, on a cluster
        self.summary = ImportSummary(files={name: FileSummary() for name in files})
        self.earlier_names = EarlierNames()
        self.countries = dict(Org.objects.values_list("id", "country"))
        self.programs = {
            (org_id, public_id): row_id
            for org_id, public_id, row_id in Program.objects.values_list("org_id", "public_id", "id")
        }

    def run(self, checks: Sequence[Check], *, skip_bad: bool) -> ImportSummary:
        with connection.cursor() as self.cursor:
            self._make_stages()
            for name, file in self.files.items():
                self._stage(name, file)
            self._check_rows(checks)
            if self.summary.bad_rows and not skip_bad:
                raise ImportRefused(self._bad_rows_message())
            self._insert()
            self.summary.uncovered = replay(
                self.cursor, progress=lambda done, total: self.progress("redeeming", done, total)
            )
            analyze(self.cursor, "loyalty_lot", "loyalty_draw")
            self._drop_stages()
        return self.summary

    def _bad_rows_message(self) -> str:
        named = self.summary.bad_rows
        count = sum(file.bad for file in self.summary.files.values())
        more = [f"and {count - len(named)} more"] if count > len(named) else []
        return "\n".join(["nothing was imported; bad rows:", *map(str, named), *more])

    # Staging

    def _make_stages(self) -> None:
        if connection.vendor == "postgresql":
            # An import takes minutes, so a request's timeouts are too short.
            self.cursor.execute("SET LOCAL statement_timeout = 0")
            self.cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            self.cursor.execute("SET LOCAL lock_timeout = '60s'")
        self._drop_stages()
        kind = "TEMPORARY"
        if is_distributed():
            kind = "UNLOGGED"
            self._make_schema()
        time_type = "timestamptz" if connection.vendor == "postgresql" else "text"
        for name, columns in STAGES.items():
            self.cursor.execute(f"CREATE {kind} TABLE {name} ({columns.format(time=time_type)})")
            if self.schema:
                self.cursor.execute(
                    f"SELECT create_distributed_table('{name}', 'org_id', colocate_with => 'loyalty_customer')"
                )

    def _make_schema(self) -> None:
        """Creates a schema for the stages of this import. A cluster needs them on all nodes, beside the ledger."""
        self.schema = f"import_{new_row_id()}"
        self.cursor.execute(f"CREATE SCHEMA {self.schema}")
        self.cursor.execute(
            f"SELECT set_config('search_path', '{self.schema}, ' || current_setting('search_path'), true)"
        )

    def _drop_stages(self) -> None:
        if self.schema:
            self.cursor.execute(f"DROP SCHEMA {self.schema} CASCADE")
            return
        for name in STAGES:
            self.cursor.execute(f"DROP TABLE IF EXISTS {name}")

    def _stage(self, name: str, file: LedgerFile) -> None:
        rows = file.rows()
        while portion := list(islice(rows, ROWS_AT_ONCE)):
            self._stage_portion(name, file, portion)
            if len(portion) == ROWS_AT_ONCE:
                self.progress(file.path.name, file.bytes_read, file.size)
        self.progress(file.path.name, file.size, file.size)

    def _stage_portion(self, name: str, file: LedgerFile, portion: Sequence[Row | BadRow]) -> None:
        counts = self.summary.files[name]
        good: list[Row] = []
        for row in portion:
            counts.read += 1
            resolved = row if isinstance(row, BadRow) else self._resolved(name, file, row)
            if isinstance(resolved, Row):
                good.append(resolved)
            else:
                counts.bad += 1
                self.summary.name_bad_row(resolved)
        with rows_into(self.cursor, f"stage_{name}") as add:
            for row in good:
                add(self._staged(name, row))
        if name == "customers":
            self._stage_identifiers(good)

    def _resolved(self, name: str, file: LedgerFile, row: Row) -> Row | BadRow:
        """Returns the row with its identifiers and its names as they are stored, or a BadRow."""
        bad = self._bad_parent(file, row)
        if bad is not None:
            return bad
        values = dict(row.values)
        for column, kind in _IDENTIFIERS.items():
            if values.get(column) is not None:
                try:
                    values[column] = storable(kind, values[column], country=self.countries[values["org_id"]])
                except ValueError as error:
                    return BadRow(file.path.name, row.line, column, str(error))
        return Row(row.line, values | self.earlier_names.as_stored(name, values))

    def _bad_parent(self, file: LedgerFile, row: Row) -> BadRow | None:
        org_id = row.values["org_id"]
        if org_id not in self.countries:
            return BadRow(file.path.name, row.line, "org_id", f"an org that exists, not {org_id}")
        if "program_id" in row.values and (org_id, row.values["program_id"]) not in self.programs:
            return BadRow(
                file.path.name, row.line, "program_id", f"a program of org {org_id}, not {row.values['program_id']}"
            )
        return None

    def _staged(self, name: str, row: Row) -> tuple[object, ...]:
        values = row.values
        if "program_id" in values:
            values = {**values, "program_id": self.programs[values["org_id"], values["program_id"]]}
        return (row.line, new_row_id(), *itemgetter(*STAGED_COLUMNS[name])(values), NEW)

    def _stage_identifiers(self, rows: Iterable[Row]) -> None:
        with rows_into(self.cursor, "stage_identifiers") as add:
            for row in rows:
                org_id, customer_id = row.values["org_id"], row.values["customer_id"]
                for column, kind in _IDENTIFIERS.items():
                    if row.values[column] is not None:
                        value = row.values[column].value
                        add((row.line, new_row_id(), org_id, customer_id, column, kind.value, value))

    # Checking which staged rows exist already, and which are bad

    def _check_rows(self, checks: Sequence[Check]) -> None:
        for table, columns in STAGE_INDEXES:
            self.cursor.execute(f"CREATE INDEX {table}_{columns.split(', ')[-1]} ON {table} ({columns})")
        analyze(self.cursor, *{table for table, _ in STAGE_INDEXES})
        for check in checks:
            if check.file in self.files:
                self._apply(check)

    def _apply(self, check: Check) -> None:
        table, counts = f"stage_{check.file}", self.summary.files[check.file]
        where = f"verdict = {NEW} AND {check.condition}"
        if check.verdict == EXISTING:
            self.cursor.execute(f"UPDATE {table} AS staged SET verdict = {EXISTING} WHERE {where}")
            counts.already_there += self.cursor.rowcount
            return
        self.cursor.execute(f"SELECT line FROM {table} AS staged WHERE {where} ORDER BY line LIMIT {BAD_ROWS_NAMED}")
        lines = self.cursor.fetchall()
        if not lines:
            return
        for (line,) in lines:
            self.summary.name_bad_row(BadRow(self.files[check.file].path.name, line, check.column, check.expected))
        self.cursor.execute(f"UPDATE {table} AS staged SET verdict = {BAD} WHERE {where}")
        counts.bad += self.cursor.rowcount

    # Inserting

    def _insert(self) -> None:
        if connection.vendor == "postgresql":
            # Twice, because the first wait may have been for a merge into a customer who is not locked yet.
            self._lock_owners()
            self._lock_owners()
        self._record_imports()
        for name, sql in INSERTS:
            self.cursor.execute(sql)
            if name in self.files:
                self.summary.files[name].added += self.cursor.rowcount
            if name == "customers":
                self._merge_customers()
        analyze(self.cursor, "loyalty_customer", "loyalty_lot", "loyalty_redemption")

    def _lock_owners(self) -> None:
        self.cursor.execute(f"{ORGS_OF_NEW} ORDER BY org_id")
        for (org_id,) in self.cursor.fetchall():
            self.cursor.execute(lock_owners(), {"org": org_id})

    def _merge_customers(self) -> None:
        """Merges each new customer into the one that its row names in `merged_into`, if any."""
        set_targets, record = MERGES
        self.cursor.execute(set_targets)
        if not self.cursor.rowcount:
            return
        self.cursor.execute(record, [self.made_by, connection.ops.adapt_datetimefield_value(timezone.now())])
        # Each run doubles the steps that are followed, so that 64 are enough for any chain. A circle has no end.
        for _ in range(64):
            self.cursor.execute(FOLLOW_MERGES)
            if not self.cursor.rowcount:
                break
        self.cursor.execute(CIRCULAR_MERGES)
        circular = self.cursor.fetchone()
        if circular is not None:
            raise ImportRefused(
                f"nothing was imported; customers.csv: merged_into forms a circle from customer {circular[0]}"
            )

    def _record_imports(self) -> None:
        """Inserts an import for each org that gets lots or redemptions, which all refer to it."""
        self.cursor.execute(SUMS_OF_NEW)
        sums = self.cursor.fetchall()
        with rows_into(self.cursor, "stage_imports") as add:
            for row in sums:
                add((new_row_id(), *map(int, row)))
        imported_at = connection.ops.adapt_datetimefield_value(timezone.now())
        self.cursor.execute(RECORD_IMPORTS, [imported_at, self.made_by])
