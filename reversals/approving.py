"""The word of a second person: what is asked for waits, and is approved with the movement itself or rejected."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from loyalty import emf
from loyalty.changes import record_change
from loyalty.request_id import current_request_id
from loyalty.selectors import settings_of
from loyalty.service import NotPossible
from reversals.calls import Answer
from reversals.correcting.service import Approved, correct_reversal
from reversals.errors import ErrorCode, Refused
from reversals.models import Approval, Attempt
from reversals.requests import ReversalRequest
from reversals.selectors import is_key_of_reversal, lock_approval, people_behind
from reversals.service import reverse_points


def ask(
    *,
    org_id: int,
    redemption_id: int,
    points_asked: Decimal | None,
    points: Decimal,
    key: str,
    channel: str,
    reason: str,
    asked_by: str,
    corrects_id: int | None = None,
) -> Approval:
    """The request for approval with this key: a new one, or the one that an earlier send of it made.

    `redemption_id` and `corrects_id` are row ids; `corrects_id` names the reversal to correct, None asks for a
    reversal of `points_asked` points, None for all that is left. `points` is what it comes to now.
    """
    now = timezone.now()
    Approval.objects.bulk_create(
        [
            Approval(
                org_id=org_id,
                redemption_id=redemption_id,
                corrects_id=corrects_id,
                points_asked=points_asked,
                points=points,
                key=key,
                channel=channel,
                reason=reason,
                asked_by=asked_by,
                asked_at=now,
                lapses_at=now + timedelta(days=settings_of(org_id).get(emf.APPROVAL_DAYS)),
            )
        ],
        ignore_conflicts=True,
    )
    return Approval.objects.get(org_id=org_id, key=key)


def approve(approval: Approval, *, decided_by: str, comment: str) -> Answer:
    """Makes the movement that was asked for and keeps the approval, both or neither.

    All rules decide anew. A refusal leaves the request waiting, and so does an outage: NOT_APPROVABLE where it
    was decided already, has lapsed, or `decided_by` is who asked for it; else what the movement's ladder says.
    """
    attempt = Attempt(
        org_id=approval.org_id,
        created_at=timezone.now(),
        request_id=current_request_id(),
        channel=approval.channel,
        made_by=approval.asked_by,
        reason=approval.reason,
    )

    @contextmanager
    def approving() -> Iterator[None]:
        locked = _lock_waiting(approval, decided_by=decided_by, now=timezone.now())
        yield
        made = attempt.reversal_id if approval.corrects is None else None
        _decide(locked, Approval.Status.APPROVED, decided_by, comment, reversal_id=made)

    settings = settings_of(approval.org_id)
    if approval.corrects is not None:
        approved = Approved(approval.id, decided_by, approving)
        return correct_reversal(attempt, settings=settings, reversal_id=approval.corrects.public_id, approved=approved)
    request = ReversalRequest(
        redemption_id=approval.redemption.public_id,
        external_reference_number=None,
        identifier=None,
        points_asked=approval.points_asked,
    )
    return reverse_points(attempt, settings=settings, read=lambda: request, approving=approving)


@transaction.atomic
def reject(approval: Approval, *, decided_by: str, comment: str) -> Approval:
    """Ends the request without a movement. Raises NotPossible without a comment, or where it cannot be decided."""
    if not comment.strip():
        raise NotPossible("a rejection needs a comment that says why")
    try:
        locked = _lock_waiting(approval, decided_by=decided_by, now=timezone.now())
    except Refused as refusal:
        raise NotPossible(refusal.reason) from refusal
    rejected = _decide(locked, Approval.Status.REJECTED, decided_by, comment)
    record_change(
        rejected,
        org=rejected.org,
        action="rejected",
        made_by=decided_by,
        reason=rejected.comment,
        before={"status": Approval.Status.WAITING},
        after={"status": Approval.Status.REJECTED},
    )
    return rejected


def _lock_waiting(approval: Approval, *, decided_by: str, now: datetime) -> Approval:
    """The request, locked and still waiting for this person. Refuses NOT_APPROVABLE."""
    locked = lock_approval(org_id=approval.org_id, approval_id=approval.id)
    if locked.status != Approval.Status.WAITING:
        raise Refused(ErrorCode.NOT_APPROVABLE, f"{locked.decided_by} has {locked.get_status_display().lower()} it.")
    if locked.lapses_at <= now:
        raise Refused(ErrorCode.NOT_APPROVABLE, f"The request lapsed on {locked.lapses_at:%Y-%m-%d}; ask for it anew.")
    if decided_by in people_behind(locked):
        raise Refused(ErrorCode.NOT_APPROVABLE, "Another person than the one who asked for it has to decide.")
    if is_key_of_reversal(org_id=locked.org_id, key=locked.key):
        # The limit was raised between two sends of one page: the other send needed nobody's approval.
        raise Refused(ErrorCode.NOT_APPROVABLE, "The same request was made already without approval; reject this one.")
    return locked


def _decide(
    approval: Approval, status: Approval.Status, decided_by: str, comment: str, *, reversal_id: int | None = None
) -> Approval:
    approval.status, approval.decided_by, approval.decided_at = status, decided_by, timezone.now()
    approval.comment, approval.reversal_id = comment.strip(), reversal_id
    approval.save(update_fields=["status", "decided_by", "decided_at", "comment", "reversal"])
    return approval
