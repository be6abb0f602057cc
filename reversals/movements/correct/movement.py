"""One correction as a movement: locks the rows that its reversal changed, and decides what to write."""

from dataclasses import dataclass
from typing import ClassVar

from loyalty.emf.registry import EmfSettings
from loyalty.ledger import locks
from reversals.movements import counters
from reversals.movements.correct import rules, snapshot
from reversals.movements.correct.requests import CorrectionRequest
from reversals.movements.correct.rules import Facts, Plan, ReversalFacts
from reversals.movements.correct.statements import correction_statements
from reversals.movements.engine import Decision, Moment
from reversals.refusals import CorrectionError, Refused


@dataclass(frozen=True, slots=True)
class Accepted:
    """An allowed correction: its facts, and the plan of what each lot loses."""

    facts: Facts
    plan: Plan


@dataclass(frozen=True, slots=True)
class ApprovedBy:
    """The second user who approves a correction, and the row id of the approval request."""

    approval_id: int
    username: str


@dataclass(frozen=True, slots=True)
class Correct:
    """The correction of a whole reversal, with the settings of its org. Only a dry run needs no approval.

    An accepted attempt records the corrected reversal. A correction sends no event.
    """

    operation: ClassVar[str] = "CORRECT"

    request: CorrectionRequest
    settings: EmfSettings
    approved_by: ApprovedBy | None = None

    def decide(self, moment: Moment) -> Decision[Accepted]:
        """Refuses in the order of `CorrectionError`."""
        rules.check_org(self.settings)
        attempt = moment.attempt
        # The owners of the reversed points never change, so they are read before the locks, to decide which to take.
        reversal = snapshot.find_reversal_facts(org_id=attempt.org_id, public_id=self.request.reversal_id)
        if reversal is None:
            raise Refused(CorrectionError.NOT_FOUND, "The org has no reversal with this id. Check the reversal id.")
        with counters.LOCK_SECONDS.labels(self.operation).time():
            facts = self._lock(moment, reversal)
        plan = rules.plan_correction(facts)
        if self.approved_by is None:
            return Decision(Accepted(facts, plan))
        statements = correction_statements(
            facts=facts,
            plan=plan,
            attempt=attempt,
            approval_id=self.approved_by.approval_id,
            approved_by=self.approved_by.username,
        )
        return Decision(Accepted(facts, plan), tuple(statements), reversal_id=reversal.id)

    def _lock(self, moment: Moment, reversal: ReversalFacts) -> Facts:
        """Locks every row that the correction changes, and returns the facts."""
        org_id = moment.attempt.org_id
        # The reversal's customer, and every other customer who owns a lot that it refilled.
        customers = locks.lock_customers(org_id=org_id, ids=reversal.customer_ids)
        redemption = locks.lock_redemption(
            org_id=org_id,
            identifier=None,
            public_id=reversal.redemption_public_id,
            external_reference_number=None,
            candidate_public_id=reversal.public_id,
        )
        if redemption is None:  # a redemption with a reversal is never deleted
            raise LookupError(f"the redemption of reversal {reversal.public_id} is gone")
        lots = locks.lock_lots_by_id(org_id=org_id, ids=reversal.lot_ids)
        return Facts(
            reversal=reversal,
            corrected_at=snapshot.corrected_at(org_id=org_id, reversal_id=reversal.id),
            customer=next(customer for customer in customers if customer.id == reversal.customer_id),
            lots={lot.facts.id: lot for lot in lots},
            is_approved=self.approved_by is not None or moment.attempt.is_dry_run,
            now=redemption.locked_at,
        )
