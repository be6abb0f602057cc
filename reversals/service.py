"""Reverses points: the one door, whoever asks. It reads the database's clock once, when the rows are locked."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from loyalty import selectors as loyalty_selectors
from loyalty.callers import Belief
from loyalty.emf import EmfSettings
from loyalty.facts import RedemptionFacts
from reversals import attempts, calls, ledger, outages, rules, selectors
from reversals.calls import Answer, Reply
from reversals.errors import ErrorCode, Refused
from reversals.events import outbox
from reversals.models import Attempt, Channel
from reversals.monitoring import counted
from reversals.requests import ReversalRequest
from reversals.rules import Facts, Plan


@dataclass(frozen=True, slots=True)
class Accepted:
    """A reversal that may be made: what it rests on, what is written, and its public id; None in a dry run."""

    facts: Facts
    plan: Plan
    reversal_id: str | None

    @property
    def needs_approval(self) -> bool:
        return rules.needs_approval(self.facts, self.plan.points)


def _no_reply(outcome: Accepted | Refused) -> Reply:
    return Reply(outcome.error.status if isinstance(outcome, Refused) else 200, "")


def reverse_points(
    attempt: Attempt,
    *,
    settings: EmfSettings,
    read: Callable[[], ReversalRequest],
    reply: Callable[[Accepted | Refused], Reply] = _no_reply,
    approving: Callable[[], AbstractContextManager[None]] | None = None,
    belief: Belief | None = None,
) -> Answer:
    """Makes the reversal that `read` returns, once, and records the attempt, accepted or refused.

    `attempt` says who asks, through which channel and with which idempotency key; it must be new. `read`
    raises Refused on a malformed request. `reply` gives the body that a repeat of the key receives.
    `approving` is entered in the transaction, before any lock but the key's, and left once all is written: it
    keeps the approval of a second person. None: nobody approved, and a dry run shows what somebody would have to.
    `belief` is in who calls, and is proven before anything is answered; else Unproven is raised and nothing is kept.
    Refusals are answers, in the order of `ErrorCode`; nothing is raised for one, nor for a database outage.
    """
    return calls.answer(attempt, _Reversal(attempt, settings, read, reply, approving, belief), belief)


class _Reversal:
    """The movement of one call."""

    def __init__(
        self,
        attempt: Attempt,
        settings: EmfSettings,
        read: Callable[[], ReversalRequest],
        reply: Callable[[Accepted | Refused], Reply],
        approving: Callable[[], AbstractContextManager[None]] | None,
        belief: Belief | None,
    ) -> None:
        self.attempt = attempt
        self.settings = settings
        self.read = read
        self.reply = reply
        self.approving = approving
        self.belief = belief
        self.customer_ids: frozenset[int] = frozenset()

    def check(self) -> None:
        rules.check_org(self.settings)

    def refused(self, refusal: Refused) -> Reply:
        return self.reply(refusal)

    def make(self, request: ReversalRequest, finish: Callable[[Reply], None]) -> bool:
        with self.approving() if self.approving is not None else nullcontext():
            self._make(request, finish)
        return False

    def _make(self, request: ReversalRequest, finish: Callable[[Reply], None]) -> None:
        attempt = self.attempt
        reversal_id = ledger.new_public_id()
        with counted.LOCK_SECONDS.labels(attempt.operation).time():
            redemption = self._lock(request, reversal_id)
        now = redemption.locked_at
        facts = Facts(
            request=request,
            settings=self.settings,
            redemption=redemption,
            earlier=selectors.earlier_reversals(
                attempt=attempt, request=request, redemption=redemption, settings=self.settings, now=now
            ),
            by_hand=attempt.channel != Channel.API,
            is_approved=self.approving is not None or attempt.is_dry_run,
            now=now,
        )
        plan = rules.plan_reversal(facts)
        finish(self.reply(Accepted(facts, plan, None if attempt.is_dry_run else reversal_id)))
        if attempt.is_dry_run:
            attempts.record(attempt)
            return
        ledger.write_reversal(facts=facts, plan=plan, attempt=attempt, public_id=reversal_id)
        if redemption.has_webhooks:
            outbox.add_reversal(facts=facts, plan=plan, attempt=attempt, reversal_id=reversal_id)

    def _lock(self, request: ReversalRequest, candidate: str) -> RedemptionFacts:
        """The redemption, locked. Whose lots it drew is known only then: other members are locked in a new try."""
        org_id = self.attempt.org_id
        unproven = None if self.belief is None or self.belief.proven else self.belief
        members = loyalty_selectors.lock_customers(org_id=org_id, ids=self.customer_ids)
        redemption = loyalty_selectors.lock_redemption(
            org_id=org_id,
            identifier=request.identifier,
            public_id=request.redemption_id,
            external_reference_number=request.external_reference_number,
            candidate_public_id=candidate,
            login=None if unproven is None else unproven.login,
        )
        if redemption is None:
            raise self._not_found(request)
        if unproven is not None:
            unproven.compare(redemption.caller_state)
        if redemption.candidate_is_taken:
            raise outages.PublicIdTaken
        if redemption.is_cross_member and not self.customer_ids:
            self.customer_ids = redemption.customer_ids
            raise calls.StartAgain
        return replace(redemption, members=tuple(members))

    def _not_found(self, request: ReversalRequest) -> Refused:
        public_id = request.redemption_id
        if public_id is not None and selectors.is_reversal(
            org_id=self.attempt.org_id, public_id=public_id, identifier=request.identifier
        ):
            return Refused(
                ErrorCode.IS_A_REVERSAL,
                f"{public_id} is a reversal; a reversal is not reversed. Send the redemptionId.",
            )
        return Refused(
            ErrorCode.NOT_FOUND,
            "There is no such customer, or no such redemption of that customer; check identifier and redemption.",
        )
