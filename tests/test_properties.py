"""Laws of the ledger as properties: against all amounts, and against an independent model over any history."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from loyalty.models import Lot, Redemption
from reversals.models import Reversal
from reversals.verification import broken_laws
from tests.builders import World, correct, make_lot, make_world, redeem, set_value

pytestmark = pytest.mark.django_db

START = datetime(2026, 1, 1, tzinfo=UTC)

thousandths = st.integers(min_value=1, max_value=20_000)


def amount(count: int) -> Decimal:
    return Decimal(count).scaleb(-3)


def world_with_lots(sizes: list[int]) -> World:
    """Lots that expire in the order of `sizes`, one day apart, long after everything else happens."""
    world = make_world()
    for day, size in enumerate(sizes):
        make_lot(
            world.asha, amount(size), program=world.program, awarded_at=START, expires_at=START + timedelta(9000 + day)
        )
    return world


def remaining(world: World) -> list[Decimal]:
    return list(Lot.objects.filter(org=world.org).order_by("expires_at").values_list("points_remaining", flat=True))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(thousandths, min_size=1, max_size=5), data=st.data())
def test_redeeming_r_and_reversing_p_leaves_what_redeeming_r_minus_p_leaves(
    sizes: list[int], data: st.DataObject
) -> None:
    redeemed = data.draw(st.integers(min_value=1, max_value=sum(sizes)), label="redeemed")
    returned = data.draw(st.integers(min_value=1, max_value=redeemed), label="returned")
    world, other = world_with_lots(sizes), world_with_lots(sizes)
    redemption = redeem(world.asha, amount(redeemed), program=world.program)
    first = data.draw(st.integers(min_value=0, max_value=returned), label="in a first part")
    for number, part in enumerate((first, returned - first)):
        if not part:
            continue
        response = world.reverse(redemption, str(amount(part)), key=f"key-{number}")
        assert response.status_code == 200
    if redeemed > returned:
        redeem(other.asha, amount(redeemed - returned), program=other.program)
    assert remaining(world) == remaining(other)
    assert broken_laws(world.org.id) == []


@dataclass
class ModelLot:
    """A lot of the model, in whole thousandths."""

    left: int
    awarded_at: datetime
    expires_at: datetime | None


@dataclass
class ModelDraw:
    """What is still drawn from a lot; from None, what no lot covered."""

    lot: ModelLot | None
    left: int


@dataclass
class ModelRedemption:
    """What it drew, in the order of drawing."""

    public_id: str
    drawn: list[ModelDraw] = field(default_factory=list)

    @property
    def left(self) -> int:
        return sum(draw.left for draw in self.drawn)


@dataclass
class ModelReversal:
    """What came back to which draw, and the lot in which points came anew, with their number."""

    parts: list[tuple[ModelDraw, int]] = field(default_factory=list)
    reissued: tuple[ModelLot, int] | None = None
    is_corrected: bool = False

    def taken(self) -> list[tuple[ModelLot, int]]:
        """What a correction takes from each lot, one after the other."""
        own = [(draw.lot, points) for draw, points in self.parts if draw.lot is not None]
        return own if self.reissued is None else [*own, self.reissued]


class Ledger(RuleBasedStateMachine):
    """Awards, redeems, reverses, corrects and lets time pass, in any order; the model knows each answer."""

    @initialize(reissues=st.booleans())
    def begin(self, reissues: bool) -> None:
        self.world = make_world()
        self.reissues = reissues
        if reissues:
            set_value(self.world.org, "Reversal_reissue_days", "5")
        self.day, self.count = 0, 0
        self.lots: list[ModelLot] = []
        self.redemptions: list[tuple[ModelRedemption, object]] = []
        self.reversals: list[tuple[ModelReversal, Reversal]] = []

    @property
    def now(self) -> datetime:
        return START + timedelta(days=self.day, minutes=self.count)

    @rule(points=thousandths, lives=st.none() | st.integers(min_value=1, max_value=20))
    def award(self, points: int, lives: int | None) -> None:
        self.count += 1
        expires_at = None if lives is None else START + timedelta(days=self.day + lives)
        make_lot(
            self.world.asha, amount(points), program=self.world.program, awarded_at=self.now, expires_at=expires_at
        )
        self.lots.append(ModelLot(points, self.now, expires_at))

    @rule(days=st.integers(min_value=1, max_value=10))
    def wait(self, days: int) -> None:
        self.day += days

    @rule(points=thousandths)
    def spend(self, points: int) -> None:
        self.count += 1
        public = redeem(self.world.asha, amount(points), program=self.world.program, at=self.now)
        redemption = ModelRedemption(public.public_id)
        usable = [lot for lot in self.lots if lot.left and not self.has_expired(lot)]
        uncovered = self.draw(redemption, usable, points)
        if uncovered:
            redemption.drawn.insert(0, ModelDraw(None, uncovered))
        self.redemptions.append((redemption, public))

    @rule(points=thousandths)
    def spend_over_the_api(self, points: int) -> None:
        self.count += 1
        usable = [lot for lot in self.lots if lot.left and not self.has_expired(lot)]
        with time_machine.travel(self.now, tick=False):
            response = self.world.redeem(self.world.asha, str(amount(points)))
        if points > sum(lot.left for lot in usable):
            assert response.json()["errors"][0]["code"] == 818
            return
        assert response.json()["balance"] == float(amount(sum(lot.left for lot in usable) - points))
        redemption = ModelRedemption(response.json()["redemptionId"])
        self.draw(redemption, usable, points)
        self.redemptions.append((redemption, Redemption.objects.get(public_id=redemption.public_id)))

    def draw(self, redemption: ModelRedemption, usable: list[ModelLot], points: int) -> int:
        """Takes the points from the lots in the order of drawing, and returns what they do not cover."""
        usable.sort(key=lambda lot: (lot.expires_at or datetime.max.replace(tzinfo=UTC), lot.awarded_at))
        for lot in usable:
            taken = min(points, lot.left)
            if taken:
                lot.left -= taken
                points -= taken
                redemption.drawn.append(ModelDraw(lot, taken))
        return points

    def has_expired(self, lot: ModelLot) -> bool:
        return lot.expires_at is not None and lot.expires_at <= self.now

    @precondition(lambda self: self.redemptions)
    @rule(which=st.integers(min_value=0), points=st.none() | thousandths)
    def give_back(self, which: int, points: int | None) -> None:
        redemption, public = self.redemptions[which % len(self.redemptions)]
        self.count += 1
        with time_machine.travel(self.now, tick=False):
            asked = None if points is None else str(amount(points))
            response = self.world.reverse(public, asked, key=f"key-{self.count}")
            expected = self.expected(redemption, points)
        body = response.json()
        if isinstance(expected, int):
            assert body["errors"][0]["code"] == expected
            return
        model, available, expired = expected
        self.reversals.append((model, Reversal.objects.get(public_id=body["reversalId"])))
        assert body["pointsReversedDetails"] == {
            "available": float(amount(available)),
            "expired": float(amount(expired)),
        }
        assert body["pointsReversed"] == float(amount(available + expired))

    @precondition(lambda self: self.reversals)
    @rule(which=st.integers(min_value=0))
    def take_back(self, which: int) -> None:
        model, reversal = self.reversals[which % len(self.reversals)]
        self.count += 1
        with time_machine.travel(self.now, tick=False):
            answer = correct(reversal)
        if model.is_corrected:
            assert answer.attempt.code == 902
            return
        taken = model.taken()
        lost = {id(lot): sum(points for each, points in taken if each is lot) for lot, _ in taken}
        if any(lot.left < lost[id(lot)] for lot, _ in taken):
            assert answer.attempt.code == 817
            return
        assert answer.error is None
        model.is_corrected = True
        for lot, points in taken:
            lot.left -= points
        for draw, points in model.parts:
            draw.left += points

    def expected(self, redemption: ModelRedemption, points: int | None) -> int | tuple[ModelReversal, int, int]:
        """The refusal's code, or the reversal with its available and expired points, which is done in the model."""
        if not redemption.left:
            return 902
        missing = redemption.left if points is None else points
        if missing > redemption.left:
            return 817
        covered = sum(draw.left for draw in redemption.drawn if draw.lot is not None)
        if missing > covered and not self.reissues:
            return 899
        available = expired = reissued = 0
        reversal = ModelReversal()
        for draw in reversed(redemption.drawn):
            returned = min(missing, draw.left)
            if not returned:
                continue
            missing -= returned
            draw.left -= returned
            reversal.parts.append((draw, returned))
            lot = draw.lot
            if lot is not None:
                lot.left += returned
            if lot is not None and not self.has_expired(lot):
                available += returned
            elif self.reissues:
                reissued += returned
            else:
                expired += returned
        if reissued:
            self.lots.append(ModelLot(reissued, self.now, self.now + timedelta(days=5)))
            reversal.reissued = self.lots[-1], reissued
        return reversal, available + reissued, expired

    @invariant()
    def the_lots_are_as_the_model_says(self) -> None:
        if not hasattr(self, "world"):
            return
        stored = Lot.objects.filter(org=self.world.org).order_by("id").values_list("points_remaining", flat=True)
        assert list(stored) == [amount(lot.left) for lot in self.lots]

    def teardown(self) -> None:
        if hasattr(self, "world"):
            assert broken_laws(self.world.org.id) == []


def test_any_history_leaves_what_the_model_says(db: None) -> None:
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
