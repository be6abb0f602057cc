"""Describes the result of each row of a bulk run, for its page and for the CSV file to download."""

from collections.abc import Iterator

from django.db.models import QuerySet

from loyalty.ledger.points import written
from reversals.models import Approval, BulkRow, BulkRun, Reversal

HEADER = (
    "redemption_id",
    "points asked",
    "points reversed",
    "of them expired",
    "status",
    "code",
    "reversal id",
    "outcome",
)


def rows_of(run: BulkRun, status: str = "") -> QuerySet[BulkRow]:
    """The rows of the run in the order of the file, with one status or all, ready for the functions below."""
    rows = BulkRow.objects.filter(org_id=run.org_id, run_id=run.id)
    if status:
        rows = rows.filter(status=status)
    return rows.select_related("run", "reversal", "approval__reversal").order_by("position")


def reversal_of(row: BulkRow) -> Reversal | None:
    """The reversal that the row made, immediately or after a second user's approval."""
    approval = row.approval
    return row.reversal or (approval.reversal if approval is not None else None)


def status_of(row: BulkRow) -> str:
    """The current status of the row. A row that waited for approval may have been decided since."""
    if row.approval is not None and row.approval.status != Approval.Status.WAITING:
        return str(row.approval.get_status_display()).lower()
    if row.status == BulkRow.Status.READY and row.run.cancelled_by:
        return "cancelled"
    if row.status == BulkRow.Status.READY and row.points is None:
        return "not checked yet"
    return str(row.get_status_display())


def outcome_of(row: BulkRow) -> str:
    """Describes what was done or what was wrong or, for a ready row, what will happen."""
    approval = row.approval
    if approval is not None and approval.decided_by:
        return ": ".join(part for part in (f"decided by {approval.decided_by}", approval.comment) if part)
    if row.status == BulkRow.Status.READY and row.run.cancelled_by:
        return "not made, because the run was cancelled"
    if row.status == BulkRow.Status.READY and row.needs_approval:
        return "; ".join(part for part in ("will wait for a second user's approval", row.outcome) if part)
    return str(row.outcome)


def result_lines(run: BulkRun) -> Iterator[list[str]]:
    """The lines of the CSV file to download, in the columns of HEADER."""
    for row in rows_of(run).iterator(chunk_size=500):
        reversal = reversal_of(row)
        yield [
            row.redemption_id,
            row.points_written or "all",
            written(reversal.points) if reversal else "",
            written(reversal.points_expired) if reversal else "",
            status_of(row),
            str(row.code or ""),
            reversal.public_id if reversal else "",
            outcome_of(row),
        ]
