"""One reversal as a movement: locks the redemption, reads what the rules need, and decides what to write."""

from dataclasses import dataclass, replace
from typing import ClassVar

from loyalty.emf.registry import EmfSettings
from loyalty.fields import new_row_id
from loyalty.ledger import locks
from loyalty.ledger.identifiers import Identifier, IdentifierType
from loyalty.ledger.queries import survivor_of
from loyalty.ledger.snapshots import RedemptionFacts
from reversals.models import Channel
from reversals.movements import counters, outages
from reversals.movements.engine import Decision, LockFirst, Moment
from reversals.movements.past_reversals import is_reversal
from reversals.movements.public_ids import new_public_id
from reversals.movements.reverse import rules
from reversals.movements.reverse.earlier import earlier_reversals
from reversals.movements.reverse.events import reversal_events
from reversals.movements.reverse.requests import ReversalRequest
from reversals.movements.reverse.rules import Facts, Plan
from reversals.movements.reverse.statements import reversal_statements
from reversals.refusals import ErrorCode, Refused


@dataclass(frozen=True, slots=True)
class Accepted:
    """An allowed reversal: its facts, its plan, and its public id, which is None in a dry run."""

    facts: Facts
    plan: Plan
    reversal_id: str | None

    @property
    def why_approval(self) -> str | None:
        return rules.why_approval(self.facts, self.plan.points)


@dataclass(frozen=True, slots=True)
class Reverse:
    """The requested reversal, with the settings of its org. `is_approved`: a second user approves it."""

    operation: ClassVar[str] = "REVERSE"

    request: ReversalRequest
    settings: EmfSettings
    is_approved: bool = False

    def decide(self, moment: Moment) -> Decision[Accepted]:
        """Refuses in the order of `ErrorCode`, from row 3 on. A dry run is not refused for lack of an approval."""
        rules.check_org(self.settings)
        attempt, public_id = moment.attempt, new_public_id()
        with counters.LOCK_SECONDS.labels(self.operation).time():
            redemption = self._lock(moment, public_id)
        facts = Facts(
            request=self.request,
            settings=self.settings,
            redemption=redemption,
            earlier=earlier_reversals(
                attempt=attempt,
                request=self.request,
                redemption=redemption,
                settings=self.settings,
                now=redemption.locked_at,
            ),
            is_manual=attempt.channel != Channel.API,
            is_approved=self.is_approved or attempt.is_dry_run,
            now=redemption.locked_at,
        )
        plan = rules.plan_reversal(facts)
        reversal_id = new_row_id()
        statements = reversal_statements(reversal_id, public_id, facts=facts, plan=plan, attempt=attempt)
        if redemption.has_webhooks and not attempt.is_dry_run:
            statements += reversal_events(facts=facts, plan=plan, attempt=attempt, public_id=public_id)
        accepted = Accepted(facts, plan, None if attempt.is_dry_run else public_id)
        return Decision(accepted, tuple(statements), reversal_id=reversal_id)

    def _lock(self, moment: Moment, candidate: str) -> RedemptionFacts:
        """Locks the redemption. Only then are the owners of its lots known: other members are locked in a new try."""
        org_id = moment.attempt.org_id
        members = locks.lock_customers(org_id=org_id, ids=moment.customer_ids)
        redemption = self._locked(org_id, self.request.identifier, candidate) or self._of_survivor(org_id, candidate)
        if redemption is None:
            raise self._not_found(org_id)
        if redemption.candidate_is_taken:
            raise outages.PublicIdTaken
        # A merge can give the lots to another customer between two tries.
        if redemption.is_cross_member and not redemption.customer_ids <= moment.customer_ids:
            raise LockFirst(redemption.customer_ids)
        return replace(redemption, members=tuple(members))

    def _locked(self, org_id: int, identifier: Identifier | None, candidate: str) -> RedemptionFacts | None:
        for public_id, external_reference_number in self.request.names:
            redemption = locks.lock_redemption(
                org_id=org_id,
                identifier=identifier,
                public_id=public_id,
                external_reference_number=external_reference_number,
                candidate_public_id=candidate,
            )
            if redemption is not None:
                return redemption
        return None

    def _of_survivor(self, org_id: int, candidate: str) -> RedemptionFacts | None:
        """Locks the redemption of the customer into whom the requested customer was merged.

        A request without an identifier finds no redemption if a merge committed while it waited for the lock, because
        the lock drops a row whose customer changed. It is found in a second try.
        """
        identifier = self.request.identifier
        if identifier is None:
            return self._locked(org_id, None, candidate)
        survivor = survivor_of(org_id=org_id, identifier=identifier)
        if survivor is None:
            return None
        redemption = self._locked(org_id, Identifier(IdentifierType.ID, str(survivor)), candidate)
        if redemption is None:
            return None
        return replace(redemption, customer=replace(redemption.customer, status="MERGED", merged_into=survivor))

    def _not_found(self, org_id: int) -> Refused:
        public_id = self.request.redemption_id
        if public_id is not None and is_reversal(
            org_id=org_id, public_id=public_id, identifier=self.request.identifier
        ):
            return Refused(
                ErrorCode.IS_A_REVERSAL,
                f"{public_id} is a reversal, and a reversal cannot be reversed. Use the id of the redemption.",
            )
        return Refused(
            ErrorCode.NOT_FOUND,
            "There is no such redemption of this customer. Check the identifier and the redemption.",
            staff_reason="There is no redemption with this id in the org. Check the redemption id.",
        )
