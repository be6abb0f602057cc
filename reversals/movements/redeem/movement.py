"""One redemption as a movement: locks the lots that it may draw on, and decides what to write."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import ClassVar

from loyalty.emf.registry import EmfSettings
from loyalty.fields import new_row_id
from loyalty.ledger import locks, queries
from loyalty.ledger.clock import database_now
from loyalty.ledger.locks import EarlierRedemption
from loyalty.ledger.snapshots import CustomerFacts, DrawRecord, RedemptionRecord, Wallet, WalletLot
from loyalty.ledger.sql import Statement
from reversals.models import Attempt
from reversals.movements import counters, outages, past_reversals
from reversals.movements.engine import Decision, Moment
from reversals.movements.public_ids import new_public_id
from reversals.movements.redeem import rules
from reversals.movements.redeem.events import redemption_events
from reversals.movements.redeem.requests import RedemptionRequest
from reversals.movements.redeem.rules import Facts, Plan
from reversals.movements.redeem.statements import NewRedemption, redemption_statements
from reversals.refusals import RedemptionError, Refused


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A redemption that was made, now or earlier; in a dry run, one that is possible and has an empty public id.

    `balance` are the customer's own available points afterwards, without those of other members of a group.
    """

    redemption: RedemptionRecord
    balance: Decimal
    is_dry_run: bool


@dataclass(frozen=True, slots=True)
class Redeem:
    """The requested redemption, with the settings of its org.

    A repeat of an external reference number with the same content is answered with the first redemption, as a replay.
    It is refused if any points of that redemption were reversed.
    """

    operation: ClassVar[str] = "REDEEM"

    request: RedemptionRequest
    settings: EmfSettings

    def decide(self, moment: Moment) -> Decision[Redeemed]:
        """Refuses in the order of `RedemptionError`, from row 4 on."""
        for_group = rules.redeems_for_group(self.settings)
        window = rules.duplicate_window(self.settings)
        attempt = moment.attempt
        with counters.LOCK_SECONDS.labels(self.operation).time():
            customer, owner_ids = self._lock_customers(attempt.org_id, for_group=for_group)
        if customer.status == "MERGED":
            survivor = queries.survivor_of(org_id=attempt.org_id, identifier=self.request.identifier)
            customer = replace(customer, merged_into=survivor)
        earlier = self._earlier(attempt.org_id, customer.merged_into)
        if earlier is not None:
            own = queries.points_of(org_id=attempt.org_id, customer_id=customer.id, at=database_now())
            redeemed = Redeemed(earlier, own.available, attempt.is_dry_run)
            return Decision(redeemed, redemption_id=earlier.row_id, is_replay=True)
        public_id = new_public_id()
        repeatable = self._repeatable(customer.id, window) if window and not attempt.idempotency_key else None
        wallet = self._lock_wallet(attempt.org_id, owner_ids, public_id, repeatable)
        facts = Facts(self.request, customer, wallet.programs, wallet.lots, wallet.now, wallet.repeats)
        plan = rules.plan_redemption(facts)
        new = _new_redemption(facts, plan, attempt, public_id)
        record = _record(new, facts, plan)
        statements = redemption_statements(new, plan.draws)
        if wallet.has_webhooks and not attempt.is_dry_run:
            statements += _event_statements(new, record, facts, plan, attempt)
        redeemed = Redeemed(record, _balance(facts, plan), attempt.is_dry_run)
        return Decision(redeemed, tuple(statements), redemption_id=new.id)

    def _lock_customers(self, org_id: int, *, for_group: bool) -> tuple[CustomerFacts, Sequence[int]]:
        """Locks the customer and the owners of all lots that may be drawn on, in the order of their row ids."""
        identifier = self.request.identifier
        not_found = Refused(
            RedemptionError.CUSTOMER_NOT_FOUND, "The org has no customer with this id. Check the customer id."
        )
        if not for_group:
            customer = locks.lock_customer(org_id=org_id, public_id=identifier.customer_number or 0)
            if customer is None:
                raise not_found
            return customer, [customer.id]
        customer_id = queries.find_customer_id(org_id=org_id, identifier=identifier)
        if customer_id is None:
            raise not_found
        group = queries.group_of(org_id=org_id, customer_id=customer_id)
        locked = {member.id: member for member in locks.lock_customers(org_id=org_id, ids=group)}
        # Members who left during the wait for the locks are left out. So are those who joined, as they are not locked.
        still_in = queries.group_of(org_id=org_id, customer_id=customer_id)
        active = {row_id for row_id in still_in & set(locked) if locked[row_id].status == "ACTIVE"}
        return locked[customer_id], sorted(active | {customer_id})

    def _repeatable(self, customer_id: int, window: timedelta) -> EarlierRedemption | None:
        """Describes the redemption that this request would repeat; None if its reference number tells repeats apart."""
        request = self.request
        if request.external_reference_number is not None:
            return None
        return EarlierRedemption(
            customer_id, request.points_asked, request.transaction_number, request.program_id, window
        )

    def _lock_wallet(
        self, org_id: int, owner_ids: Sequence[int], candidate: str, earlier: EarlierRedemption | None
    ) -> Wallet:
        wallet = locks.lock_wallet(
            org_id=org_id,
            customer_ids=owner_ids,
            candidate_is_taken=past_reversals.names_a_reversal(org_id=org_id, public_id=candidate),
            earlier=earlier,
        )
        if wallet.candidate_is_taken:
            raise outages.PublicIdTaken
        return wallet

    def _earlier(self, org_id: int, merged_into: int | None) -> RedemptionRecord | None:
        """Finds the redemption that this one repeats, by its reference number. Refuses 887 (HTTP 422)."""
        reference = self.request.external_reference_number
        if reference is None:
            return None
        as_sent = self.request.reference_as_sent or reference
        earlier = queries.find_redemption(org_id=org_id, external_reference_number=as_sent)
        if earlier is None:
            return None
        reversal_id = None
        if earlier.points_reversed:
            reversal_id = past_reversals.last_reversal_of(org_id=org_id, redemption_id=earlier.row_id)
        rules.check_repeat(self.request, earlier, reversal_id, merged_into=merged_into)
        return earlier


def _new_redemption(facts: Facts, plan: Plan, attempt: Attempt, public_id: str) -> NewRedemption:
    request = facts.request
    return NewRedemption(
        id=new_row_id(),
        org_id=attempt.org_id,
        program_id=plan.program.id,
        customer_id=facts.customer.id,
        public_id="" if attempt.is_dry_run else public_id,
        points=request.points_asked,
        redeemed_at=facts.now,
        transaction_number=request.transaction_number,
        external_reference_number=request.external_reference_number,
        has_key=bool(attempt.idempotency_key),
    )


def _event_statements(
    new: NewRedemption, record: RedemptionRecord, facts: Facts, plan: Plan, attempt: Attempt
) -> list[Statement]:
    return redemption_events(
        new,
        customer_public_id=facts.customer.public_id,
        points_by_program=_drawn_by_program(facts, plan),
        own_points_by_program=_drawn_by_program(facts, plan, owner_id=facts.customer.id),
        is_group_redemption=record.is_cross_member,
        attempt=attempt,
    )


def _record(new: NewRedemption, facts: Facts, plan: Plan) -> RedemptionRecord:
    """The new redemption, in the form in which a later look-up reads it."""
    lots: dict[int | None, WalletLot] = {lot.facts.id: lot for lot in facts.lots}
    return RedemptionRecord(
        row_id=new.id,
        public_id=new.public_id,
        customer_id=facts.customer.public_id,
        program_id=plan.program.public_id,
        points=new.points,
        points_reversed=Decimal(0),
        redeemed_at=new.redeemed_at,
        transaction_number=new.transaction_number,
        external_reference_number=new.external_reference_number,
        draws=tuple(
            DrawRecord(
                position=position,
                points=draw.points,
                points_reversed=Decimal(0),
                lot_ref=lots[draw.lot_id].lot_ref,
                lot_expires_at=lots[draw.lot_id].facts.expires_at,
                program_id=lots[draw.lot_id].program_public_id,
                member_id=lots[draw.lot_id].facts.customer_public_id,
            )
            for position, draw in enumerate(plan.draws, start=1)
        ),
    )


def _drawn_by_program(facts: Facts, plan: Plan, *, owner_id: int | None = None) -> dict[int, Decimal]:
    """The points drawn by program row id, in the order of drawing: from the lots of one owner, or of all if None."""
    lots: dict[int | None, WalletLot] = {lot.facts.id: lot for lot in facts.lots}
    drawn: dict[int, Decimal] = {}
    for draw in plan.draws:
        lot = lots[draw.lot_id]
        if owner_id in {None, lot.customer_id}:
            drawn[lot.program_id] = drawn.get(lot.program_id, Decimal(0)) + draw.points
    return drawn


def _balance(facts: Facts, plan: Plan) -> Decimal:
    own = {lot.facts.id: lot.facts.points_remaining for lot in facts.lots if lot.customer_id == facts.customer.id}
    drawn = sum((draw.points for draw in plan.draws if draw.lot_id in own), Decimal(0))
    return sum(own.values(), Decimal(0)) - drawn
