"""The statuses of redemptions, reversals, approval requests, attempts and rows of bulk runs."""

from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet, Subquery
from django.utils import timezone

from loyalty.admin.statuses import Status
from loyalty.models import Redemption, Webhook
from reversals.manual.bulk import results
from reversals.models import Approval, Attempt, BulkRow, Correction, Delivery, Reversal
from reversals.refusals import ErrorCode

OPEN = Status("open", "info")
PARTLY_REVERSED = Status("partly reversed", "info")
REVERSED = Status("reversed", "success")
WAITING = Status("waiting for approval", "warning")
VALID = Status("valid", "success")
CORRECTED = Status("corrected", "danger")
WAITING_FOR_CORRECTION = Status("waiting for correction", "warning")
ACCEPTED = Status("accepted", "success")
APPROVAL_REQUESTED = Status("approval requested", "warning")

# The rule has this name for reversals and for corrections. It refuses nothing: the user then requests an approval.
NEEDS_APPROVAL = ErrorCode.NEEDS_APPROVAL.name

WAITING_REQUEST = Status("waiting", "warning")
_OF_REQUEST = {
    Approval.Status.WAITING: WAITING_REQUEST,
    Approval.Status.APPROVED: Status("approved", "success"),
    Approval.Status.REJECTED: Status("rejected", "danger"),
}
LAPSED = Status("lapsed")

_OF_ROW = {
    BulkRow.Status.READY: "info",
    BulkRow.Status.INVALID: "danger",
    BulkRow.Status.REVERSED: "success",
    BulkRow.Status.REQUESTED: "warning",
    BulkRow.Status.REFUSED: "danger",
}


def redemptions_with_status(redemptions: QuerySet[Redemption]) -> QuerySet[Redemption]:
    """Adds what `status_of_redemption` reads."""
    return redemptions.annotate(is_waiting=Exists(_waiting(redemption=OuterRef("id"), corrects__isnull=True)))


def status_of_redemption(redemption: Any) -> Status:
    """Returns how much of the redemption was reversed, or that a reversal of it waits for approval."""
    if redemption.is_waiting:
        return WAITING
    if not redemption.points_reversed:
        return OPEN
    return REVERSED if redemption.points_reversed == redemption.points else PARTLY_REVERSED


def reversals_with_status(reversals: QuerySet[Reversal]) -> QuerySet[Reversal]:
    """Adds what `status_of_reversal` reads: `corrected_at` and `corrected_by`, and whether a correction waits."""
    corrections = Correction.objects.filter(org_id=OuterRef("org_id"), reversal=OuterRef("id"))
    return reversals.annotate(
        corrected_at=Subquery(corrections.values("created_at")[:1]),
        corrected_by=Subquery(corrections.values("made_by")[:1]),
        is_waiting=Exists(_waiting(corrects=OuterRef("id"))),
    )


def status_of_reversal(reversal: Any) -> Status:
    """Returns whether the reversal counts, was corrected, or has a correction that waits for approval."""
    if reversal.corrected_at is not None:
        return CORRECTED
    return WAITING_FOR_CORRECTION if reversal.is_waiting else VALID


def status_of_request(approval: Approval) -> Status:
    """Returns the decision about the request. A request that waits after its time is over has lapsed."""
    if approval.status == Approval.Status.WAITING and approval.lapses_at <= timezone.now():
        return LAPSED
    return _OF_REQUEST[Approval.Status(approval.status)]


def status_of_attempt(attempt: Attempt) -> Status:
    """Returns the result of the attempt. A request for approval is not a refusal."""
    if not attempt.rule:
        return ACCEPTED
    return APPROVAL_REQUESTED if attempt.rule == NEEDS_APPROVAL else Status(f"refused {attempt.code}", "danger")


def status_of_row(row: BulkRow) -> Status:
    """Returns the outcome of one row of a bulk run. A row that waited for approval may have been decided since."""
    text = results.status_of(row)
    if text in {"cancelled", "not checked yet"}:
        return Status(text)
    if row.approval is not None and row.approval.status != Approval.Status.WAITING:
        return status_of_request(row.approval)
    return Status(text, _OF_ROW[BulkRow.Status(row.status)])


def waiting_requests() -> QuerySet[Approval]:
    """Returns the requests that wait now."""
    now: datetime = timezone.now()
    return Approval.objects.filter(status=Approval.Status.WAITING, lapses_at__gt=now)


def is_failing(delivery: Delivery) -> bool:
    """Returns whether the delivery was given up, or failed at least once and waits for the next try."""
    return delivery.status == Delivery.Status.GIVEN_UP or (
        delivery.status == Delivery.Status.PENDING and delivery.tries > 0
    )


def status_of_delivery(delivery: Delivery) -> Status:
    """Returns what became of the delivery."""
    if delivery.status == Delivery.Status.DELIVERED:
        return Status("delivered", "success")
    if delivery.status == Delivery.Status.GIVEN_UP:
        return Status("given up", "danger")
    return Status("failing", "warning") if delivery.tries else Status("waiting", "info")


def status_of_webhook(webhook: Webhook) -> Status:
    """Returns whether the webhook's receiver gets its events."""
    if webhook.disabled_at is not None:
        return Status("disabled by its receiver", "danger")
    if not webhook.is_active:
        return Status("off")
    if webhook.rest():
        return Status("resting", "danger")
    return Status("failing", "warning") if webhook.failure_count else Status("active", "success")


def _waiting(**wanted: Any) -> QuerySet[Approval]:
    """Returns the requests that wait now, in the org of the outer query."""
    return waiting_requests().filter(org_id=OuterRef("org_id"), **wanted)
