"""Creates approval requests, which a second user approves together with the movement, or rejects."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias, TypeVar

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from loyalty.emf import registry as emf
from loyalty.emf.stored import settings_of
from loyalty.errors import InvalidOperation
from loyalty.ledger.sql import update
from loyalty.staff.audit import record_change
from loyalty.staff.signin.resets import check_may_approve
from reversals.models import Approval, Attempt, BulkRow, Channel
from reversals.movements import engine
from reversals.movements.attempts import new_attempt
from reversals.movements.correct.movement import ApprovedBy, Correct
from reversals.movements.correct.requests import CorrectionRequest
from reversals.movements.engine import Decision, Moment, Movement, Outcome, Wrapped
from reversals.movements.reverse.movement import Reverse
from reversals.movements.reverse.requests import ReversalRequest
from reversals.refusals import ErrorCode, Refused

Accepted = TypeVar("Accepted", covariant=True)
# Ids of orgs, or a query for them.
Orgs: TypeAlias = Collection[int] | QuerySet[Any, Any]


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
    """Creates the approval request with this key, or returns the one that an earlier submission created.

    `redemption_id` and `corrects_id` are row ids. `corrects_id` names the reversal to correct; if it is None, the
    request is for a reversal of `points_asked` points, or of all remaining points if that is None too. `points` is
    the number of points that would move now.
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


@dataclass(frozen=True, slots=True)
class Approved(Wrapped[Accepted]):
    """A movement that a second user approves. The movement and the approval commit together or not at all."""

    approval: Approval
    decided_by: str
    comment: str

    def decide(self, moment: Moment) -> Decision[Accepted]:
        """Raises NOT_APPROVABLE if the request was decided, has lapsed, or was made by the user who decides it.

        Also if another user reset the sign-in of the user who decides it within the last day.
        """
        try:
            check_may_approve(self.decided_by)
        except InvalidOperation as error:
            raise Refused(ErrorCode.NOT_APPROVABLE, f"T{str(error)[1:]}.") from error
        _lock_waiting(self.approval, decided_by=self.decided_by, now=timezone.now())
        decision = self.movement.decide(moment)
        kept = {
            "status": Approval.Status.APPROVED.value,
            "decided_by": self.decided_by,
            "decided_at": timezone.now(),
            "comment": self.comment.strip(),
            "is_news": True,
            "reversal_id": decision.reversal_id if self.approval.corrects_id is None else None,
        }
        keeping = update("reversals_approval", kept, org_id=self.approval.org_id, row_id=self.approval.id)
        return replace(decision, statements=(*decision.statements, keeping))


def approve(approval: Approval, *, decided_by: str, comment: str) -> Outcome[object]:
    """Makes the requested movement and records the approval in the same transaction.

    All rules are applied again. After a refusal or an outage the request still waits. The refusal is NOT_APPROVABLE
    if the request was decided, has lapsed, or was made by `decided_by`; otherwise it is one of the movement's own.
    """
    attempt = new_attempt(approval.org_id, channel=approval.channel, made_by=approval.asked_by, reason=approval.reason)
    movement = _movement_of(approval, decided_by=decided_by)
    return engine.run(Approved(movement, approval, decided_by, comment), attempt)


def _movement_of(approval: Approval, *, decided_by: str) -> Movement[object]:
    """The requested movement, approved by `decided_by`."""
    settings = settings_of(approval.org_id)
    if approval.corrects is not None:
        request = CorrectionRequest(approval.corrects.public_id)
        return Correct(request, settings, approved_by=ApprovedBy(approval.id, decided_by))
    return Reverse(
        ReversalRequest(
            redemption_id=approval.redemption.public_id,
            external_reference_number=None,
            identifier=None,
            points_asked=approval.points_asked,
        ),
        settings,
        is_approved=True,
    )


@transaction.atomic
def reject(approval: Approval, *, decided_by: str, comment: str) -> Approval:
    """Rejects the request. Raises InvalidOperation if the comment is empty or the request cannot be decided."""
    if not comment.strip():
        raise InvalidOperation("A rejection needs a comment with the reason.")
    try:
        locked = _lock_waiting(approval, decided_by=decided_by, now=timezone.now())
    except Refused as refusal:
        raise InvalidOperation(refusal.reason) from refusal
    locked.status, locked.decided_by, locked.decided_at = Approval.Status.REJECTED, decided_by, timezone.now()
    locked.comment, locked.is_news = comment.strip(), True
    locked.save(update_fields=["status", "decided_by", "decided_at", "comment", "is_news"])
    record_change(
        locked,
        org=locked.org,
        action="rejected",
        made_by=decided_by,
        reason=locked.comment,
        before={"status": Approval.Status.WAITING},
        after={"status": Approval.Status.REJECTED},
    )
    return locked


def _lock_waiting(approval: Approval, *, decided_by: str, now: datetime) -> Approval:
    """Locks the request and checks that this user can decide it. Raises NOT_APPROVABLE if not."""
    locked = lock_approval(org_id=approval.org_id, approval_id=approval.id)
    if locked.status != Approval.Status.WAITING:
        raise Refused(
            ErrorCode.NOT_APPROVABLE,
            f"{locked.decided_by} has already {locked.get_status_display().lower()} the request.",
        )
    if locked.lapses_at <= now:
        raise Refused(ErrorCode.NOT_APPROVABLE, f"The request lapsed on {locked.lapses_at:%Y-%m-%d}; create a new one.")
    if decided_by in requesters_of(locked):
        raise Refused(
            ErrorCode.NOT_APPROVABLE, f"{decided_by} took part in this request; a second user must decide it."
        )
    if is_key_of_reversal(org_id=locked.org_id, key=locked.key):
        # The limit was raised between two submissions of one page, so the other submission needed no approval.
        raise Refused(
            ErrorCode.NOT_APPROVABLE, "The points were already reversed without approval; reject this request."
        )
    return locked


def waiting(org_ids: Orgs) -> QuerySet[Approval]:
    """Returns the requests of these orgs that wait now, oldest first. One that has lapsed does not wait."""
    requests = Approval.objects.filter(org_id__in=org_ids, status=Approval.Status.WAITING)
    return requests.filter(lapses_at__gt=timezone.now()).order_by("asked_at", "id")


def waiting_for(username: str, org_ids: Orgs) -> QuerySet[Approval]:
    """Returns the requests of these orgs that wait and that this user did not take part in, oldest first."""
    took_part = Q(run__made_by=username) | Q(run__confirmed_by=username)
    rows = BulkRow.objects.filter(took_part, org_id=OuterRef("org_id"), approval_id=OuterRef("id"))
    return waiting(org_ids).exclude(asked_by=username).exclude(Exists(rows))


def lock_approval(*, org_id: int, approval_id: int) -> Approval:
    """Locks the approval request and returns its state under the lock."""
    return Approval.objects.select_for_update(no_key=True).get(org_id=org_id, id=approval_id)


def requesters_of(approval: Approval) -> set[str]:
    """The users who requested it. For a row of a bulk run, also those who created and confirmed the run."""
    requesters = {approval.asked_by}
    if approval.channel == Channel.BULK:
        rows = BulkRow.objects.filter(org_id=approval.org_id, id=approval.key.removeprefix(BulkRow.KEY_PREFIX))
        for made_by, confirmed_by in rows.values_list("run__made_by", "run__confirmed_by"):
            requesters |= {made_by, confirmed_by}
    return requesters


def is_key_of_reversal(*, org_id: int, key: str) -> bool:
    """Returns whether a reversal was made with this idempotency key."""
    return Attempt.objects.filter(org_id=org_id, idempotency_key=key, holds_key=True, reversal__isnull=False).exists()
