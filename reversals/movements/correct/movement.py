"""One correction as a movement: locks all that its reversal moved, and says what to write to take it back."""

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
    """A correction that may be made: what it rests on, and what each lot loses."""

    facts: Facts
    plan: Plan


@dataclass(frozen=True, slots=True)
class ApprovedBy:
    """The second person who approves a correction, and the request that they decide, by its row id."""

    approval_id: int
    username: str


@dataclass(frozen=True, slots=True)
class Correct:
    """The correction of a whole reversal, under the settings of its org. Only a dry run may lack an approval.

    An accepted attempt names the reversal that was corrected. No event tells of a correction.
    """

    operation: ClassVar[str] = "CORRECT"

    request: CorrectionRequest
    settings: EmfSettings
    approved_by: ApprovedBy | None = None

    def decide(self, moment: Moment) -> Decision[Accepted]:
        """Refuses in the order of `CorrectionError`."""
        rules.check_org(self.settings)
        attempt = moment.attempt
        # Whose points were reversed never changes, so it is read before the locks and says which to take.
        reversal = snapshot.find_reversal_facts(org_id=attempt.org_id, public_id=self.request.reversal_id)
        if reversal is None:
            raise Refused(CorrectionError.NOT_FOUND, "There is no such reversal; check the reversal id.")
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
        """The facts, with every row that the correction changes locked."""
        org_id = moment.attempt.org_id
        # Whoever else owns a lot that it refilled is locked as well as the reversal's customer.
        customers = locks.lock_customers(org_id=org_id, ids=reversal.customer_ids)
        redemption = locks.lock_redemption(
            org_id=org_id,
            identifier=None,
            public_id=reversal.redemption_public_id,
            external_reference_number=None,
            candidate_public_id=reversal.public_id,
        )
        if redemption is None:  # it stands as long as its reversal does
            raise LookupError(f"the redemption of reversal {reversal.public_id} is gone")
        lots = locks.lock_lots_named(org_id=org_id, ids=reversal.lot_ids)
        return Facts(
            reversal=reversal,
            corrected_at=snapshot.corrected_at(org_id=org_id, reversal_id=reversal.id),
            customer=next(customer for customer in customers if customer.id == reversal.customer_id),
            lots={lot.facts.id: lot for lot in lots},
            is_approved=self.approved_by is not None or moment.attempt.is_dry_run,
            now=redemption.locked_at,
        )
