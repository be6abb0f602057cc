"""Ledger files uploaded in the back office: how they are kept, and how the worker imports them."""

import gzip
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django_tasks import task

from loyalty.importing.files import COLUMNS, LedgerFileError
from loyalty.importing.importer import ImportRefused, ImportSummary, import_ledger
from loyalty.importing.stages import BAD, Check
from loyalty.ledger.points import grouped
from loyalty.models import LedgerUpload, Org
from loyalty.staff.access import may_work_on
from reversals.operations.worker import queue

RIGHT = "loyalty.add_ledgerimport"
# What deploy/nginx.conf lets through, less what a form adds.
MOST_BYTES = 1_900_000

# Reversals and redemptions share one set of public ids. The check is here because `loyalty` does not import
# `reversals`.
NO_REVERSAL_HAS_THE_ID = Check(
    "redemptions",
    BAD,
    "EXISTS (SELECT 1 FROM reversals_reversal reversal"
    " WHERE reversal.org_id = staged.org_id AND reversal.public_id = staged.redemption_id)",
    "redemption_id",
    "an id that is not the id of a reversal of the org",
)


@transaction.atomic
def add(*, org: Org, made_by: str, files: Mapping[str, tuple[str, bytes]]) -> LedgerUpload:
    """Keeps the files, given by `customers`, `points` or `redemptions` with name and content, for the worker."""
    kept = {kind: content if is_gzip(name) else gzip.compress(content) for kind, (name, content) in files.items()}
    upload = LedgerUpload.objects.create(org=org, made_by=made_by, made_at=timezone.now(), **kept)
    queue.add(import_upload, org.id, upload.id)
    return upload


def is_gzip(name: str) -> bool:
    return name.lower().endswith(".gz")


@task(queue_name=queue.REQUESTED)
def import_upload(org_id: int, upload_id: int) -> None:
    """Imports the files, all or nothing, and removes them. Run again, it finds the rows already there."""
    upload = LedgerUpload.objects.filter(org_id=org_id, id=upload_id, status=LedgerUpload.Status.WAITING).first()
    if upload is None:
        return
    upload.status, upload.outcome = _imported(upload)
    upload.customers = upload.points = upload.redemptions = None
    upload.save()


def _imported(upload: LedgerUpload) -> tuple[LedgerUpload.Status, str]:
    """Returns the outcome, also in words. Checks first that the user who uploaded the files may still import them."""
    user = User.objects.filter(username=upload.made_by, is_active=True, is_staff=True).first()
    if user is None or not user.has_perm(RIGHT) or not may_work_on(user, upload.org_id):
        return LedgerUpload.Status.REFUSED, f"{upload.made_by} may not import ledger files in this org any more."
    with TemporaryDirectory() as folder:
        for kind in COLUMNS:
            content = getattr(upload, kind)
            if content is not None:
                Path(folder, f"{kind}.csv.gz").write_bytes(content)
        try:
            summary = import_ledger(
                Path(folder),
                made_by=upload.made_by,
                skip_bad=False,
                dry_run=False,
                progress=lambda step, done, of: None,
                more_checks=[NO_REVERSAL_HAS_THE_ID, *_only(upload.org_id)],
            )
        except (ImportRefused, LedgerFileError) as refusal:
            return LedgerUpload.Status.REFUSED, str(refusal)
    return LedgerUpload.Status.IMPORTED, _in_words(summary)


def _only(org_id: int) -> list[Check]:
    """Refuses the rows of other orgs than the one that the files were uploaded for."""
    return [
        Check(kind, BAD, f"staged.org_id <> {org_id}", "org_id", f"{org_id}, the org of the upload") for kind in COLUMNS
    ]


def _in_words(summary: ImportSummary) -> str:
    lines = [
        f"{kind}: {counts.added:,} added, {counts.already_there:,} already there"
        for kind, counts in summary.files.items()
    ]
    if summary.uncovered.redemptions:
        points = grouped(summary.uncovered.points)
        lines.append(f"redemptions whose points no lot covers: {summary.uncovered.redemptions:,}, {points} points")
    return "\n".join(lines)
