"""Redeems points: the one door, whoever asks. It reads the database's clock once, when the lots are locked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from loyalty import reading
from loyalty import selectors as loyalty_selectors
from loyalty.callers import Belief
from loyalty.clock import database_now
from loyalty.emf import EmfSettings
from loyalty.facts import CustomerFacts, Wallet, WalletLot
from loyalty.fields import new_row_id
from loyalty.ledger import NewRedemption, redemption_statements
from loyalty.records import DrawRecord, RedemptionRecord
from loyalty.statements import execute_together
from reversals import attempts, calls, outages, selectors
from reversals.calls import Answer, Reply
from reversals.errors import RedemptionError, Refused
from reversals.events import outbox
from reversals.ledger import new_public_id
from reversals.models import Attempt
from reversals.monitoring import counted
from reversals.redeeming import rules
from reversals.redeeming.requests import RedemptionRequest
from reversals.redeeming.rules import Facts, Plan


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A redemption that was made, earlier perhaps, or in a dry run could be: then its public id is empty.

    `balance` is the customer's own available points after it, without those of other members of a group.
    """

    redemption: RedemptionRecord
    balance: Decimal
    is_dry_run: bool


def redeem_points(
    attempt: Attempt,
    *,
    settings: EmfSettings,
    read: Callable[[], RedemptionRequest],
    reply: Callable[[Redeemed | Refused], Reply],
    belief: Belief | None = None,
) -> Answer:
    """Makes the redemption that `read` returns, once, and records the attempt, accepted or refused.

    `attempt` says who asks, through which channel and with which idempotency key; it must be new. A repeat of
    an external reference number with the same content is answered with the first redemption, as a replay, and refused
    once anything of that was reversed.
    `belief` is in who calls, and is proven before anything is answered; else Unproven is raised and nothing is kept.
    Refusals are answers, in the order of `RedemptionError`; nothing is raised for one, nor for a database outage.
    """
    return calls.answer(attempt, _Redemption(attempt, settings, read, reply, belief), belief)


class _Redemption:
    """The movement of one call."""

    def __init__(
        self,
        attempt: Attempt,
        settings: EmfSettings,
        read: Callable[[], RedemptionRequest],
        reply: Callable[[Redeemed | Refused], Reply],
        belief: Belief | None,
    ) -> None:
        self.attempt = attempt
        self.settings = settings
        self.read = read
        self.reply = reply
        self.belief = belief
        self.for_group = False

    def check(self) -> None:
        self.for_group = rules.redeems_for_group(self.settings)

    def refused(self, refusal: Refused) -> Reply:
        return self.reply(refusal)

    def make(self, request: RedemptionRequest, finish: Callable[[Reply], None]) -> bool:
        attempt = self.attempt
        with counted.LOCK_SECONDS.labels(attempt.operation).time():
            customer, owner_ids = self._lock_customers(request)
        earlier = self._earlier(request)
        if earlier is not None:
            self._check_repeat(request, earlier)
            self._repeat(earlier, customer, finish)
            return True
        public_id = new_public_id()
        wallet = self._lock_wallet(owner_ids, public_id)
        facts = Facts(request=request, customer=customer, programs=wallet.programs, lots=wallet.lots, now=wallet.now)
        plan = rules.plan_redemption(facts)
        new = self._new_redemption(facts, plan, public_id)
        record = _record(new, facts, plan)
        finish(self.reply(Redeemed(record, _balance(facts, plan), attempt.is_dry_run)))
        if attempt.is_dry_run:
            attempts.record(attempt)
            return False
        attempt.redemption_id = new.id
        execute_together([*redemption_statements(new, plan.draws), attempts.complete_attempt(attempt)])
        if wallet.has_webhooks:
            self._add_event(new, record, facts, plan)
        return False

    def _lock_customers(self, request: RedemptionRequest) -> tuple[CustomerFacts, Sequence[int]]:
        """The customer, and the row ids of those whose lots may be drawn, all locked in the order of their ids."""
        org_id = self.attempt.org_id
        not_found = Refused(RedemptionError.CUSTOMER_NOT_FOUND, "There is no such customer; check the customer id.")
        if not self.for_group:
            customer = loyalty_selectors.lock_customer(org_id=org_id, public_id=request.identifier.customer_number or 0)
            if customer is None:
                raise not_found
            return customer, [customer.id]
        customer_id = loyalty_selectors.find_customer_id(org_id=org_id, identifier=request.identifier)
        if customer_id is None:
            raise not_found
        group = loyalty_selectors.group_of(org_id=org_id, customer_id=customer_id)
        locked = {member.id: member for member in loyalty_selectors.lock_customers(org_id=org_id, ids=group)}
        # Who left while the locks were waited for is out; who joined is not locked, and so not in yet.
        still_in = loyalty_selectors.group_of(org_id=org_id, customer_id=customer_id)
        active = {row_id for row_id in still_in & set(locked) if locked[row_id].status == "ACTIVE"}
        return locked[customer_id], sorted(active | {customer_id})

    def _lock_wallet(self, owner_ids: Sequence[int], candidate: str) -> Wallet:
        org_id = self.attempt.org_id
        unproven = None if self.belief is None or self.belief.proven else self.belief
        wallet = loyalty_selectors.lock_wallet(
            org_id=org_id,
            customer_ids=owner_ids,
            candidate_is_taken=selectors.names_a_reversal(org_id=org_id, public_id=candidate),
            login=None if unproven is None else unproven.login,
        )
        if unproven is not None:
            unproven.compare(wallet.caller_state)
        if wallet.candidate_is_taken:
            raise outages.PublicIdTaken
        return wallet

    def _earlier(self, request: RedemptionRequest) -> RedemptionRecord | None:
        if request.external_reference_number is None:
            return None
        return reading.find_redemption(
            org_id=self.attempt.org_id, external_reference_number=request.external_reference_number
        )

    def _check_repeat(self, request: RedemptionRequest, earlier: RedemptionRecord) -> None:
        reversal_id = None
        if earlier.points_reversed:
            reversal_id = selectors.last_reversal_of(org_id=self.attempt.org_id, redemption_id=earlier.row_id)
        rules.check_repeat(request, earlier, reversal_id)

    def _repeat(self, earlier: RedemptionRecord, customer: CustomerFacts, finish: Callable[[Reply], None]) -> None:
        """Answers with the redemption that was made under the reference number."""
        attempt = self.attempt
        if self.belief is not None:
            self.belief.prove()
        own = reading.points_of(org_id=attempt.org_id, customer_id=customer.id, at=database_now())
        attempt.redemption_id = earlier.row_id
        finish(self.reply(Redeemed(earlier, own.available, attempt.is_dry_run)))
        execute_together([attempts.complete_attempt(attempt)])

    def _new_redemption(self, facts: Facts, plan: Plan, public_id: str) -> NewRedemption:
        request = facts.request
        return NewRedemption(
            id=new_row_id(),
            org_id=self.attempt.org_id,
            program_id=plan.program.id,
            customer_id=facts.customer.id,
            public_id="" if self.attempt.is_dry_run else public_id,
            points=request.points_asked,
            redeemed_at=facts.now,
            transaction_number=request.transaction_number,
            external_reference_number=request.external_reference_number,
        )

    def _add_event(self, new: NewRedemption, record: RedemptionRecord, facts: Facts, plan: Plan) -> None:
        outbox.add_redemption(
            new,
            customer_public_id=facts.customer.public_id,
            points_by_program=_drawn_by_program(facts, plan),
            is_group_redemption=record.is_cross_member,
            attempt=self.attempt,
        )


def _record(new: NewRedemption, facts: Facts, plan: Plan) -> RedemptionRecord:
    """The new redemption as it is read back later."""
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


def _drawn_by_program(facts: Facts, plan: Plan) -> dict[int, Decimal]:
    """The points drawn from the lots of each program, by its row id, in the order of drawing."""
    programs: dict[int | None, int] = {lot.facts.id: lot.program_id for lot in facts.lots}
    drawn: dict[int, Decimal] = {}
    for draw in plan.draws:
        program_id = programs[draw.lot_id]
        drawn[program_id] = drawn.get(program_id, Decimal(0)) + draw.points
    return drawn


def _balance(facts: Facts, plan: Plan) -> Decimal:
    own = {lot.facts.id: lot.facts.points_remaining for lot in facts.lots if lot.customer_id == facts.customer.id}
    drawn = sum((draw.points for draw in plan.draws if draw.lot_id in own), Decimal(0))
    return sum(own.values(), Decimal(0)) - drawn
