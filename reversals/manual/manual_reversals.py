"""Previews and makes manual reversals and corrections, or creates approval requests for them."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, TypeVar

from loyalty.emf.stored import settings_of
from reversals.manual import approvals
from reversals.models import Approval, Attempt, Channel, Reversal
from reversals.movements import engine
from reversals.movements.attempts import new_attempt
from reversals.movements.correct import movement as correcting
from reversals.movements.correct.requests import CorrectionRequest
from reversals.movements.engine import Outcome
from reversals.movements.reverse.movement import Accepted, Reverse
from reversals.movements.reverse.requests import ReversalRequest
from reversals.refusals import CorrectionError, ErrorCode, Ladder, Refused

# The prefix of idempotency keys of pages. A key sent to the API cannot contain "#", so the two never collide.
ADMIN_KEYS = "admin#"

Accepts = TypeVar("Accepts")


@dataclass(frozen=True, slots=True)
class _ManualRequest:
    """Who made the request, the reason, and the key that identifies the same request when it is sent again."""

    org_id: int
    reason: str
    made_by: str
    key: str

    def attempt(self, channel: Channel, *, is_dry_run: bool = False) -> Attempt:
        return new_attempt(
            self.org_id,
            channel=channel,
            made_by=self.made_by,
            reason=self.reason,
            is_dry_run=is_dry_run,
            idempotency_key="" if is_dry_run else self.key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualReversal(_ManualRequest):
    """A reversal that a user requests, of a redemption by its public id. `points` None means all remaining points."""

    redemption_id: str
    points: Decimal | None
    channel: Channel = Channel.ADMIN
    another_request: ClassVar[Ladder] = ErrorCode.KEY_OF_ANOTHER_REQUEST

    @property
    def request(self) -> ReversalRequest:
        return ReversalRequest(
            redemption_id=self.redemption_id,
            external_reference_number=None,
            identifier=None,
            points_asked=self.points,
        )

    def is_of(self, approval: Approval) -> bool:
        """Returns whether the approval request is for this reversal. An edited page can send its key for another."""
        is_amount = self.points is None or self.points == approval.points_asked
        is_reversal = approval.corrects is None
        return is_reversal and is_amount and approval.redemption.public_id == self.redemption_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualCorrection(_ManualRequest):
    """A correction that a user requests, of a whole reversal by its public id."""

    reversal_id: str
    another_request: ClassVar[Ladder] = CorrectionError.KEY_OF_ANOTHER_REQUEST

    def is_of(self, approval: Approval) -> bool:
        """Returns whether the approval request is for this correction. An edited page can send its key for another."""
        return approval.corrects is not None and approval.corrects.public_id == self.reversal_id


def preview(wanted: ManualReversal) -> Accepted | Refused:
    """Returns what the reversal would do, or why it would be refused. Moves no points; records a dry run."""
    movement = Reverse(wanted.request, settings_of(wanted.org_id))
    return _previewed(engine.run(movement, wanted.attempt(wanted.channel, is_dry_run=True)))


def preview_correction(wanted: ManualCorrection) -> correcting.Accepted | Refused:
    """Returns what the correction would take back, or why it would be refused. Moves no points, like `preview`."""
    movement = correcting.Correct(CorrectionRequest(wanted.reversal_id), settings_of(wanted.org_id))
    return _previewed(engine.run(movement, wanted.attempt(Channel.ADMIN, is_dry_run=True)))


def _previewed(outcome: Outcome[Accepts]) -> Accepts | Refused:
    if outcome.result is None:
        raise LookupError("a dry run returned no result; it holds no key, so it cannot be a replay")
    return outcome.result


def reverse(wanted: ManualReversal) -> Reversal | Approval | Refused:
    """Makes the reversal once, even if the request is sent several times.

    Returns an Approval if the points exceed what one user may reverse alone. It waits for a second user, or was
    decided since. Returns Refused, with the reason, if nothing was done.
    """
    asked_before = _asked_before(wanted)
    if asked_before is not None:
        return asked_before
    movement = Reverse(wanted.request, settings_of(wanted.org_id))
    outcome = engine.run(movement, wanted.attempt(wanted.channel))
    if outcome.error is ErrorCode.NEEDS_APPROVAL:
        return _request_approval(wanted)
    if outcome.error is not None:
        return Refused(outcome.error, outcome.attempt.refusal_reason)
    reversal: Reversal = outcome.attempt.reversal
    return reversal


def ask_to_correct(wanted: ManualCorrection) -> Approval | Refused:
    """Creates one approval request for the correction, even if the request is sent several times."""
    asked_before = _asked_before(wanted)
    if asked_before is not None:
        return asked_before
    outcome = preview_correction(wanted)
    if isinstance(outcome, Refused):
        return outcome
    reversal = outcome.facts.reversal
    asked = approvals.ask(
        org_id=wanted.org_id,
        redemption_id=reversal.redemption_id,
        corrects_id=reversal.id,
        points_asked=None,
        points=outcome.plan.points,
        key=wanted.key,
        channel=Channel.ADMIN,
        reason=wanted.reason,
        asked_by=wanted.made_by,
    )
    return _as_asked(asked, wanted)


def _request_approval(wanted: ManualReversal) -> Approval | Refused:
    outcome = preview(wanted)
    if isinstance(outcome, Refused):
        return outcome
    asked = approvals.ask(
        org_id=wanted.org_id,
        redemption_id=outcome.facts.redemption.id,
        points_asked=outcome.plan.points,  # the approved points move, even if more remain by then
        points=outcome.plan.points,
        key=wanted.key,
        channel=wanted.channel,
        reason=wanted.reason,
        asked_by=wanted.made_by,
    )
    return _as_asked(asked, wanted)


def _asked_before(wanted: ManualReversal | ManualCorrection) -> Approval | Refused | None:
    """The approval request that an earlier submission created, if there is one."""
    approval = Approval.objects.filter(org_id=wanted.org_id, key=wanted.key).first()
    return None if approval is None else _as_asked(approval, wanted)


def _as_asked(approval: Approval, wanted: ManualReversal | ManualCorrection) -> Approval | Refused:
    """The approval request, or a refusal if its key was used for a different request."""
    if wanted.is_of(approval):
        return approval
    return Refused(
        wanted.another_request,
        "A different request was already sent from this page. Open the page again to start a new one.",
    )
