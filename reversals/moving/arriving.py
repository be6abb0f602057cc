"""Imports an exported org into this cell, completely or not at all, and verifies its rows and its ledger."""

from dataclasses import dataclass
from pathlib import Path

from django.db import IntegrityError, connection, transaction

from loyalty.errors import InvalidOperation
from loyalty.importing.bulk import analyze
from loyalty.models import Org, OrgMove
from reversals.assurance.sealing.seals import lock_chain
from reversals.moving import files
from reversals.moving.closing import record_step
from reversals.moving.files import Manifest
from reversals.moving.proving import check_laws, one_long_moment
from reversals.moving.rows import Ids, lines_of, load
from reversals.moving.tables import moved_models


@dataclass(frozen=True, slots=True)
class Arrived:
    """The export that was imported, by this run or an earlier one."""

    manifest: Manifest
    is_new: bool


def import_org(folder: Path, *, made_by: str) -> Arrived:
    """Imports and opens the exported org in one transaction. Importing the same export again changes nothing.

    Raises InvalidOperation if the schema or API_PEPPER differs from the export's, if a file has changed since it was
    written, or if the org or one of its rows already exists in this cell.
    """
    manifest, sha256 = files.read_manifest(folder)
    _check_fits(manifest)
    if OrgMove.objects.filter(org_id=manifest.org_id, step=OrgMove.Step.ARRIVED, manifest=sha256).exists():
        return Arrived(manifest, is_new=False)
    if Org.objects.filter(id=manifest.org_id).exists():
        raise InvalidOperation(f"org {manifest.org_id} is in this cell already")
    _check_files(folder, manifest)
    try:
        with transaction.atomic(), one_long_moment():
            _load(folder, manifest)
            _prove(manifest)
            lock_chain()  # so that no seal of this cell is created between the arrival and its commit
            record_step(manifest.org_id, OrgMove.Step.ARRIVED, made_by=made_by, manifest=sha256)
    except IntegrityError as error:
        raise InvalidOperation(
            f"a row of the org is in this cell already, or breaks a law of the database: {error}"
        ) from error
    return Arrived(manifest, is_new=True)


def _check_fits(manifest: Manifest) -> None:
    here = files.current_schema()
    if manifest.schema != here:
        raise InvalidOperation(
            f"the export is of schema {dict(manifest.schema)} and this cell has {here}; migrate the older one"
        )
    if manifest.pepper not in files.pepper_marks(manifest.org_id):
        raise InvalidOperation(
            "this cell has another API_PEPPER than the cell that the org leaves, so the secrets and idempotency keys of"
            " the org would not work here; set the same API_PEPPER, or add it to API_PEPPER_FORMER"
        )
    if set(manifest.tables) != {model._meta.label_lower for model in moved_models()}:
        raise InvalidOperation("the export does not hold the tables of this version")


def _check_files(folder: Path, manifest: Manifest) -> None:
    for model in moved_models():
        if files.digest_of(files.read_table(folder, model)) != manifest.tables[model._meta.label_lower]:
            raise InvalidOperation(f"the file of {model._meta.label_lower} is not as it was written")


def _load(folder: Path, manifest: Manifest) -> None:
    new_ids: Ids = {}
    for model in moved_models():
        load(model, files.read_table(folder, model), manifest.tables[model._meta.label_lower].rows, new_ids)
    with connection.cursor() as cursor:
        analyze(cursor, *(model._meta.db_table for model in moved_models()))


def _prove(manifest: Manifest) -> None:
    """Verifies that the loaded rows equal the exported rows, and that the ledger keeps every law."""
    places: Ids = {}
    for model in moved_models():
        if files.digest_of(lines_of(model, manifest.org_id, places)) != manifest.tables[model._meta.label_lower]:
            raise InvalidOperation(f"the rows of {model._meta.label_lower} are not as they were exported")
    check_laws(manifest.org_id)
