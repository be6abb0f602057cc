"""Exports an org from this cell: closes it, writes its rows to files, and verifies that it stays unchanged."""

from pathlib import Path

from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.models import Org
from loyalty.moves import closed_orgs
from reversals.moving import closing, files
from reversals.moving.files import Manifest
from reversals.moving.proving import check_laws, one_long_moment
from reversals.moving.rows import Ids, lines_of
from reversals.moving.tables import guarded_models, moved_models


def export_org(org: Org, folder: Path, *, host: str, made_by: str) -> Manifest:
    """Closes the org and writes all of its rows to the folder.

    Raises InvalidOperation if the folder already holds an export, or if the ledger breaks a law. In the second case the
    org stays closed until `reopen`.
    """
    files.make_folder(folder)
    closing.close(org, host=host, made_by=made_by)
    places: Ids = {}
    with one_long_moment():
        tables = {
            model._meta.label_lower: files.write_table(folder, model, lines_of(model, org.id, places))
            for model in moved_models()
        }
    check_laws(org.id)
    manifest = Manifest(
        org_id=org.id,
        host=host,
        exported_at=timezone.now().isoformat(),
        schema=files.current_schema(),
        pepper=files.pepper_marks(org.id)[0],
        tables=tables,
    )
    files.write_manifest(folder, manifest)
    return manifest


def check_unchanged(org: Org, folder: Path) -> Manifest:
    """Verifies that the closed org still equals its export.

    Raises InvalidOperation if the org is open, or with the names of the tables that changed.
    """
    manifest, _ = files.read_manifest(folder)
    if manifest.org_id != org.id:
        raise InvalidOperation(f"the export is of org {manifest.org_id}")
    if org.id not in closed_orgs():
        raise InvalidOperation(f"org {org.id} is not closed here")
    places: Ids = {}
    with one_long_moment():
        now = {model._meta.label_lower: files.digest_of(lines_of(model, org.id, places)) for model in guarded_models()}
    check_laws(org.id)
    changed = [name for name, table in now.items() if manifest.tables.get(name) != table]
    if changed:
        raise InvalidOperation(f"changed since the export: {', '.join(changed)}")
    return manifest
