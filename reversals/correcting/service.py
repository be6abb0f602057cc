"""Corrects reversals: the one door, whoever asks. It reads the database's clock once, when the rows are locked."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from loyalty import selectors as loyalty_selectors
from loyalty.emf import EmfSettings
from loyalty.facts import CustomerFacts
from reversals import attempts, calls, ledger, selectors
from reversals.calls import Answer, Reply
from reversals.correcting import rules
from reversals.correcting.requests import CorrectionRequest
from reversals.correcting.rules import Facts, Plan, ReversalFacts
from reversals.errors import CorrectionError, Refused
from reversals.models import Attempt, Operation
from reversals.monitoring import counted


@dataclass(frozen=True, slots=True)
class Accepted:
    """A correction that may be made: what it rests on, and what each lot loses."""

    facts: Facts
    plan: Plan


@dataclass(frozen=True, slots=True)
class Approved:
    """The word of a second person: on which request (its row id), whose, and how it is kept.

    `approving` is entered in the transaction before any lock but the key's, and left once all is written.
    """

    approval_id: int
    approved_by: str
    approving: Callable[[], AbstractContextManager[None]] = nullcontext


def _no_reply(outcome: Accepted | Refused) -> Reply:
    return Reply(outcome.error.status if isinstance(outcome, Refused) else 200, "")


def correct_reversal(
    attempt: Attempt,
    *,
    settings: EmfSettings,
    reversal_id: str,
    approved: Approved | None = None,
    reply: Callable[[Accepted | Refused], Reply] = _no_reply,
) -> Answer:
    """Takes back the whole reversal with this public id, once, and records the attempt, accepted or refused.

    `attempt` says who asks, why and through which channel; it must be new, and becomes one to correct.
    `approved` None: nobody approved, which a dry run alone may lack. `reply` is told what came of it.
    Refusals are answers, in the order of `CorrectionError`; nothing is raised for one, nor for a database outage.
    An accepted attempt names the reversal that was corrected. No event tells of a correction.
    """
    attempt.operation = Operation.CORRECT
    return calls.answer(attempt, _Correction(attempt, settings, reversal_id, approved, reply))


class _Correction:
    """The movement of one call."""

    def __init__(
        self,
        attempt: Attempt,
        settings: EmfSettings,
        reversal_id: str,
        approved: Approved | None,
        reply: Callable[[Accepted | Refused], Reply],
    ) -> None:
        self.attempt = attempt
        self.settings = settings
        self.reversal_id = reversal_id
        self.approved = approved
        self.reply = reply

    def read(self) -> CorrectionRequest:
        return CorrectionRequest(self.reversal_id)

    def check(self) -> None:
        rules.check_org(self.settings)

    def refused(self, refusal: Refused) -> Reply:
        return self.reply(refusal)

    def make(self, request: CorrectionRequest, finish: Callable[[Reply], None]) -> bool:
        with self.approved.approving() if self.approved is not None else nullcontext():
            self._make(request, finish)
        return False

    def _make(self, request: CorrectionRequest, finish: Callable[[Reply], None]) -> None:
        attempt = self.attempt
        # What was given back to whom never changes, so it is read before the locks and says which to take.
        reversal = selectors.find_reversal_facts(org_id=attempt.org_id, public_id=request.reversal_id)
        if reversal is None:
            raise Refused(CorrectionError.NOT_FOUND, "There is no such reversal; check the reversal id.")
        with counted.LOCK_SECONDS.labels(attempt.operation).time():
            facts = self._lock(reversal)
        plan = rules.plan_correction(facts)
        finish(self.reply(Accepted(facts, plan)))
        if attempt.is_dry_run or self.approved is None:
            attempts.record(attempt)
            return
        ledger.write_correction(
            facts=facts,
            plan=plan,
            attempt=attempt,
            approval_id=self.approved.approval_id,
            approved_by=self.approved.approved_by,
        )

    def _lock(self, reversal: ReversalFacts) -> Facts:
        """The facts, with every row that the correction changes locked."""
        org_id = self.attempt.org_id
        customer = self._lock_customers(reversal)
        redemption = loyalty_selectors.lock_redemption(
            org_id=org_id,
            identifier=None,
            public_id=reversal.redemption_public_id,
            external_reference_number=None,
            candidate_public_id=reversal.public_id,
        )
        if redemption is None:  # it stands as long as its reversal does
            raise LookupError(f"the redemption of reversal {reversal.public_id} is gone")
        lots = loyalty_selectors.lock_lots_named(org_id=org_id, ids=reversal.lot_ids)
        return Facts(
            reversal=reversal,
            corrected_at=selectors.corrected_at(org_id=org_id, reversal_id=reversal.id),
            customer=customer,
            lots={lot.facts.id: lot for lot in lots},
            is_approved=self.approved is not None or self.attempt.is_dry_run,
            now=redemption.locked_at,
        )

    def _lock_customers(self, reversal: ReversalFacts) -> CustomerFacts:
        """The reversal's customer; whoever else owns a lot that it gave back to is locked as well."""
        locked = loyalty_selectors.lock_customers(org_id=self.attempt.org_id, ids=reversal.customer_ids)
        return next(customer for customer in locked if customer.id == reversal.customer_id)
