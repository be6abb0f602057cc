"""Reads and writes the files of an export: one for each table, and the manifest, which is written last."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from loyalty.clients.credentials import keyed_digests
from loyalty.errors import InvalidOperation
from reversals.moving.tables import Model

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one table: how many, and the SHA-256 of their lines."""

    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of an export by model, and the schema and pepper that the importing cell must have."""

    org_id: int
    host: str
    exported_at: str
    schema: Mapping[str, str]
    pepper: str
    tables: Mapping[str, Table]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())


def digest_of(lines: Iterable[bytes]) -> Table:
    """Returns the count and the SHA-256 of the lines."""
    rows, sha256 = 0, hashlib.sha256()
    for line in lines:
        rows += 1
        sha256.update(line)
    return Table(rows, sha256.hexdigest())


def make_folder(folder: Path) -> None:
    """Creates the folder with access for its owner only, because the files hold personal data.

    Raises InvalidOperation if it already holds an export.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / MANIFEST).exists():
        raise InvalidOperation(f"{folder} already holds an export; give a new folder")


def write_table(folder: Path, model: Model, lines: Iterable[bytes]) -> Table:
    """Writes the file of the table and syncs it to disk."""
    with _path(folder, model).open("wb") as file:
        written = digest_of(line for line in lines if file.write(line))
        file.flush()
        os.fsync(file.fileno())
    return written


def read_table(folder: Path, model: Model) -> Iterator[bytes]:
    """Yields the lines of the table's file. Raises InvalidOperation if the file cannot be read."""
    try:
        with _path(folder, model).open("rb") as file:
            yield from file
    except OSError as error:
        raise InvalidOperation(f"the export is broken: {error}") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest, which completes the export."""
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Returns the manifest and its SHA-256. Raises InvalidOperation if it is missing or incomplete."""
    try:
        text = (folder / MANIFEST).read_bytes()
        members = json.loads(text)
        tables = {name: Table(**table) for name, table in members.pop("tables").items()}
        return Manifest(tables=tables, **members), hashlib.sha256(text).hexdigest()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidOperation(f"{folder} does not hold a complete export: {error}") from error


def current_schema() -> dict[str, str]:
    """Returns the last applied migration of each app of the ledger."""
    applied = sorted(MigrationRecorder(connection).applied_migrations())
    return {app: name for app, name in applied if app in {"loyalty", "reversals"}}


def pepper_marks(org_id: int) -> list[str]:
    """Returns marks of API_PEPPER and of each former one, which are equal in two cells if these are equal."""
    return keyed_digests(f"cell\0{org_id}")


def _path(folder: Path, model: Model) -> Path:
    return folder / f"{model._meta.label_lower}.jsonl"
