"""Reversals that a person asks for: previewed, made at once, or left to the word of a second person."""

from dataclasses import dataclass
from decimal import Decimal

from django.utils import timezone

from loyalty.request_id import current_request_id
from loyalty.selectors import settings_of
from reversals import approving
from reversals.calls import Reply
from reversals.errors import ErrorCode, Refused
from reversals.models import Approval, Attempt, Channel, Reversal
from reversals.requests import ReversalRequest
from reversals.service import Accepted, reverse_points


@dataclass(frozen=True, slots=True)
class Wanted:
    """A reversal that a person asks for. `points` None: all that is left. `key`: a resend is the same request."""

    org_id: int
    redemption_id: str
    points: Decimal | None
    reason: str
    made_by: str
    key: str
    channel: Channel = Channel.ADMIN

    @property
    def request(self) -> ReversalRequest:
        return ReversalRequest(
            redemption_id=self.redemption_id,
            external_reference_number=None,
            identifier=None,
            points_asked=self.points,
        )

    def attempt(self, *, is_dry_run: bool = False) -> Attempt:
        return Attempt(
            org_id=self.org_id,
            created_at=timezone.now(),
            request_id=current_request_id(),
            channel=self.channel,
            made_by=self.made_by,
            reason=self.reason,
            is_dry_run=is_dry_run,
            idempotency_key="" if is_dry_run else self.key,
        )


def preview(wanted: Wanted) -> Accepted | Refused:
    """What the reversal would do, or why it would be refused. Moves nothing; the attempt is kept as a dry run."""
    outcomes: list[Accepted | Refused] = []

    def reply(outcome: Accepted | Refused) -> Reply:
        outcomes.append(outcome)
        return Reply(outcome.error.status if isinstance(outcome, Refused) else 200, "")

    reverse_points(
        wanted.attempt(is_dry_run=True), settings=settings_of(wanted.org_id), read=lambda: wanted.request, reply=reply
    )
    return outcomes[-1]


def reverse(wanted: Wanted) -> Reversal | Approval | Refused:
    """Makes the reversal once, however often it is sent.

    An Approval is returned instead where it is of more points than one person may give back: it waits for a
    second person, or was decided since. Refused: nothing was done, with the reason of the ladder.
    """
    asked_before = Approval.objects.filter(org_id=wanted.org_id, key=wanted.key).first()
    if asked_before is not None:
        return asked_before
    attempt = wanted.attempt()
    answer = reverse_points(attempt, settings=settings_of(wanted.org_id), read=lambda: wanted.request)
    if answer.error is ErrorCode.NEEDS_APPROVAL:
        return _ask(wanted)
    if answer.error is not None:
        return Refused(answer.error, answer.attempt.refusal_reason)
    reversal: Reversal = answer.attempt.reversal
    return reversal


def _ask(wanted: Wanted) -> Approval | Refused:
    outcome = preview(wanted)
    if isinstance(outcome, Refused):
        return outcome
    return approving.ask(
        org_id=wanted.org_id,
        redemption_id=outcome.facts.redemption.id,
        points_asked=wanted.points,
        points=outcome.plan.points,
        key=wanted.key,
        channel=wanted.channel,
        reason=wanted.reason,
        asked_by=wanted.made_by,
    )
