"""The files in which an org travels: one for each table, and the manifest, which names them and is written last."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from loyalty.clients.credentials import keyed_digest
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
    """What an export holds, by the names of the models, and what the cell that takes it in must be like."""

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
    """The count and the SHA-256 of the lines."""
    rows, sha256 = 0, hashlib.sha256()
    for line in lines:
        rows += 1
        sha256.update(line)
    return Table(rows, sha256.hexdigest())


def make_folder(folder: Path) -> None:
    """Makes the folder, for its owner alone: the files hold personal data. Refuses one that holds an export."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / MANIFEST).exists():
        raise InvalidOperation(f"{folder} holds an export already; name a new folder")


def write_table(folder: Path, model: Model, lines: Iterable[bytes]) -> Table:
    """Writes the file of the table, and has it on the disk."""
    with _path(folder, model).open("wb") as file:
        written = digest_of(line for line in lines if file.write(line))
        file.flush()
        os.fsync(file.fileno())
    return written


def read_table(folder: Path, model: Model) -> Iterator[bytes]:
    """The lines of the table's file. Refuses a missing one."""
    try:
        with _path(folder, model).open("rb") as file:
            yield from file
    except OSError as error:
        raise InvalidOperation(f"the export is broken: {error}") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest, by which the export is whole."""
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """The manifest and its SHA-256. Refuses a folder without a whole one."""
    try:
        text = (folder / MANIFEST).read_bytes()
        members = json.loads(text)
        tables = {name: Table(**table) for name, table in members.pop("tables").items()}
        return Manifest(tables=tables, **members), hashlib.sha256(text).hexdigest()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidOperation(f"{folder} holds no whole export: {error}") from error


def current_schema() -> dict[str, str]:
    """The last migration of each app of the ledger, as this database has it."""
    applied = sorted(MigrationRecorder(connection).applied_migrations())
    return {app: name for app, name in applied if app in {"loyalty", "reversals"}}


def pepper_mark(org_id: int) -> str:
    """The same in two cells if their API_PEPPER is the same."""
    return keyed_digest(f"cell\0{org_id}")


def _path(folder: Path, model: Model) -> Path:
    return folder / f"{model._meta.label_lower}.jsonl"
