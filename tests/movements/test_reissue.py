"""Tests that re-issued points are in one lot only: with corrections, late files, repeats, limits and clocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.http import HttpResponse

from loyalty.ledger.groups import set_group
from loyalty.models import Customer, Lot, Redemption
from reversals.assurance.verification import broken_laws
from reversals.models import Reversal
from tests.builders import World, correct, make_customer, make_lot, make_world, set_value
from tests.database.test_import import import_ledger, redemption_row, write
from tests.movements.test_properties import clocks

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, tzinfo=UTC)
EXPIRY = START + timedelta(days=10)
DAYS = 5

_keys = count(1)


@dataclass
class Till:
    """A till. No two calls are made at the same moment, and Asha must not have more points than were awarded."""

    world: World
    clock: Any
    awarded: float = 100.0

    def travel_to(self, moment: datetime) -> None:
        self.clock.move_to(moment)

    def points(self, customer: Customer | None = None) -> tuple[float, float]:
        """The customer's available and expired points."""
        customer = customer or self.world.asha
        body = self.world.read(f"/v2/customers/{customer.public_id}/points").json()
        assert body["available"] <= self.awarded
        return body["available"], body["expired"]

    def redeem(self, points: object, **options: Any) -> Redemption:
        self.clock.shift(timedelta(seconds=1))
        response = self.world.redeem(self.world.asha, points, **options)
        assert response.status_code == 200, response.content
        return Redemption.objects.get(org=self.world.org, public_id=response.json()["redemptionId"])

    def reverse(self, redemption: Redemption, points: object = None) -> dict[str, Any]:
        self.clock.shift(timedelta(seconds=1))
        response = self.world.reverse(redemption, points, key=f"key-{next(_keys)}")
        assert response.status_code == 200, response.content
        self.points()
        body: dict[str, Any] = response.json()
        return body

    def code_of_reversal(self, redemption: Redemption, points: object = None) -> int:
        self.clock.shift(timedelta(seconds=1))
        response = self.world.reverse(redemption, points, key=f"key-{next(_keys)}")
        self.points()
        return code_of(response)

    def correct(self, body: dict[str, Any]) -> int | None:
        """Corrects the reversal, and returns the code of the refusal or None."""
        self.clock.shift(timedelta(seconds=1))
        error = correct(Reversal.objects.get(org=self.world.org, public_id=body["reversalId"])).error
        self.points()
        return None if error is None else error.code

    def lots(self) -> list[tuple[float, float, float, bool]]:
        """The awarded, remaining and re-issued points of each lot, and whether it is a re-issue."""
        assert broken_laws(self.world.org.id) == []
        lots = Lot.objects.filter(org=self.world.org).order_by("awarded_at")
        return [
            (float(lot.points_awarded), float(lot.points_remaining), float(lot.points_reissued), lot.is_reissue)
            for lot in lots
        ]


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(START, tick=False) as clock:
        yield clock


@pytest.fixture
def till(clock: Any) -> Till:
    """Asha has one lot of 100 points, and expired points are re-issued for five days."""
    world = make_world(settings={"Reversal_reissue_days": str(DAYS)})
    make_lot(world.asha, 100, program=world.program, awarded_at=START - timedelta(days=1), expires_at=EXPIRY)
    return Till(world, clock)


def code_of(response: HttpResponse) -> int:
    return int(response.json()["errors"][0]["code"])


# In one lot


def test_reissued_points_leave_their_expired_lot_for_the_new_one(till: Till) -> None:
    redemption = till.redeem(40)
    till.travel_to(EXPIRY)
    body = till.reverse(redemption, 30)
    assert body["pointsReversedDetails"] == {"available": 30.0, "expired": 0.0}
    assert till.lots() == [(100, 60, 30, False), (30, 30, 0, True)]
    new = Lot.objects.get(org=till.world.org, is_reissue=True)
    assert (new.lot_ref, new.program, new.customer) == (
        f"REISSUE-{body['reversalId']}",
        till.world.program,
        till.world.asha,
    )
    assert new.expires_at == new.awarded_at + timedelta(days=DAYS)
    till.clock.shift(timedelta(seconds=1))
    assert till.points() == (30.0, 60.0)


# Corrections


def test_correction_of_reversal_whose_points_were_reissued_since_is_refused(till: Till) -> None:
    first = till.redeem(60)
    reversal = till.reverse(first)
    second = till.redeem(100)
    till.travel_to(EXPIRY)
    assert till.reverse(second)["pointsReversedDetails"] == {"available": 100.0, "expired": 0.0}
    assert till.lots() == [(100, 0, 100, False), (100, 100, 0, True)]
    assert till.correct(reversal) == 817
    assert till.code_of_reversal(first) == 902
    assert till.lots() == [(100, 0, 100, False), (100, 100, 0, True)]
    assert till.points() == (100.0, 0.0)


def test_correction_of_reissue_takes_new_lot_back_and_opens_draw_again(till: Till) -> None:
    redemption = till.redeem(40)
    till.travel_to(EXPIRY)
    reversal = till.reverse(redemption, 30)
    assert till.correct(reversal) is None
    assert till.lots() == [(100, 60, 0, False), (30, 0, 30, True)]
    assert till.points() == (0.0, 60.0)
    assert till.reverse(redemption)["pointsReversedDetails"] == {"available": 40.0, "expired": 0.0}
    assert till.lots() == [(100, 60, 40, False), (30, 0, 30, True), (40, 40, 0, True)]


def test_correction_of_reissue_of_which_points_were_redeemed_is_refused(till: Till) -> None:
    redemption = till.redeem(40)
    till.travel_to(EXPIRY)
    reversal = till.reverse(redemption, 30)
    till.redeem("0.001")
    assert till.correct(reversal) == 817
    assert till.lots() == [(100, 60, 30, False), (30, 29.999, 0, True)]


def test_correction_of_reissue_of_points_from_no_lot_takes_new_lot_back(till: Till, tmp_path: Path) -> None:
    import_late(till, tmp_path, 130, START - timedelta(days=40))
    late = Redemption.objects.get(org=till.world.org, public_id="LATE")
    reversal = till.reverse(late)
    assert till.lots() == [(100, 100, 0, False), (130, 130, 0, True)]
    assert till.correct(reversal) is None
    assert till.lots() == [(100, 100, 0, False), (130, 0, 130, True)]


# Late files


def import_late(till: Till, folder: Path, points: int, at: datetime) -> tuple[int, str]:
    """The number of redemptions of the file that were not fully covered, and of their uncovered points."""
    till.awarded += points
    row = redemption_row(till.world, "LATE", points, redeemed_at=at.isoformat())
    report = import_ledger(write(folder, redemptions=[row]))
    return report["uncovered_redemptions"], report["uncovered_points"]


def test_late_redemption_after_reissue_is_not_covered_by_any_lot(till: Till, tmp_path: Path) -> None:
    redemption = till.redeem(100)
    till.travel_to(EXPIRY)
    till.reverse(redemption)
    assert import_late(till, tmp_path, 60, EXPIRY - timedelta(days=1)) == (1, "60")
    assert till.lots() == [(100, 0, 100, False), (100, 100, 0, True)]
    till.clock.shift(timedelta(seconds=1))
    assert till.points() == (100.0, 0.0)


def test_late_redemption_draws_what_remains_in_expired_lot_and_the_rest_from_no_lot(till: Till, tmp_path: Path) -> None:
    redemption = till.redeem(70)
    till.travel_to(EXPIRY)
    till.reverse(redemption, 20)
    assert import_late(till, tmp_path, 60, EXPIRY - timedelta(days=1)) == (1, "30")
    assert till.lots() == [(100, 0, 20, False), (20, 20, 0, True)]
    draws = Redemption.objects.get(org=till.world.org, public_id="LATE").draws.order_by("position")
    assert [(draw.lot is None, draw.points) for draw in draws] == [(True, 30), (False, 30)]


# Points are re-issued once


def test_points_redeemed_before_and_reversed_after_each_expiry_are_reissued_once(till: Till) -> None:
    details = []
    expiry = EXPIRY
    for _ in range(3):
        till.travel_to(expiry - timedelta(days=1))
        available, _ = till.points()
        if not available:
            break
        redemption = till.redeem(available)
        till.travel_to(expiry)
        details.append(till.reverse(redemption)["pointsReversedDetails"])
        expiry += timedelta(days=DAYS, seconds=1)
    assert details == [{"available": 100.0, "expired": 0.0}, {"available": 0.0, "expired": 100.0}]
    assert till.lots() == [(100, 0, 100, False), (100, 100, 0, True)]
    till.travel_to(expiry)
    assert till.points() == (0.0, 100.0)
    assert code_of(till.world.redeem(till.world.asha, 1)) == 818


# Limits


@pytest.mark.parametrize(("limit", "value"), [("Reversal_limit_count", "1"), ("Reversal_limit_points", "100")])
def test_second_reversal_to_the_same_members_lot_is_refused(clock: Any, limit: str, value: str) -> None:
    world = make_world(settings={"Enable_cross_member_redemption": "yes", limit: value})
    owner, *others = [world.asha, *(make_customer(world.org) for _ in range(5))]
    set_group(org=world.org, public_id=7, add=[member.public_id for member in (owner, *others)])
    make_lot(owner, 500, program=world.program, awarded_at=START - timedelta(days=1), expires_at=EXPIRY)
    codes = []
    for member in others:
        clock.shift(timedelta(minutes=1))
        redeemed = world.redeem(member, 100).json()["redemptionId"]
        response = world.reverse(Redemption.objects.get(org=world.org, public_id=redeemed))
        codes.append(response.status_code if response.status_code == 200 else code_of(response))
    assert codes == [200, 903, 903, 903, 903]
    assert broken_laws(world.org.id) == []


def test_corrected_reversal_to_a_members_lot_no_longer_counts_against_the_limit(clock: Any) -> None:
    world = make_world(settings={"Enable_cross_member_redemption": "yes", "Reversal_limit_count": "1"})
    members = [make_customer(world.org) for _ in range(2)]
    set_group(org=world.org, public_id=7, add=[member.public_id for member in (world.asha, *members)])
    make_lot(world.asha, 500, program=world.program, awarded_at=START - timedelta(days=1), expires_at=EXPIRY)
    made = [world.redeem(member, 100).json()["redemptionId"] for member in members]
    first, second = (Redemption.objects.get(org=world.org, public_id=each) for each in made)
    assert world.reverse(first).status_code == 200
    assert code_of(world.reverse(second)) == 903
    correct(Reversal.objects.get(org=world.org))
    assert world.reverse(second).status_code == 200


# Reference numbers


def test_repeat_of_reference_number_is_replayed_until_points_are_reversed(till: Till) -> None:
    world = till.world
    first = world.redeem(world.asha, 60, externalReferenceNumber="ORD-1")
    repeat = world.redeem(world.asha, 60, externalReferenceNumber="ORD-1")
    assert (repeat.status_code, repeat["Idempotent-Replayed"]) == (200, "true")
    assert "Idempotent-Replayed" not in first
    redemption_id = first.json()["redemptionId"]
    assert repeat.json()["redemptionId"] == redemption_id
    reversal = till.reverse(Redemption.objects.get(org=world.org, public_id=redemption_id), "0.001")
    refused = world.redeem(world.asha, 60, externalReferenceNumber="ORD-1")
    assert (refused.status_code, code_of(refused)) == (422, 887)
    reason = refused.json()["errors"][0]["reason"]
    assert redemption_id in reason
    assert reversal["reversalId"] in reason
    assert Redemption.objects.filter(org=world.org).count() == 1


def test_repeat_of_reference_number_is_replayed_again_after_the_reversal_is_corrected(till: Till) -> None:
    redemption = till.redeem(60, externalReferenceNumber="ORD-1")
    reversal = till.reverse(redemption)
    assert code_of(till.world.redeem(till.world.asha, 60, externalReferenceNumber="ORD-1")) == 887
    assert till.correct(reversal) is None
    repeat = till.world.redeem(till.world.asha, 60, externalReferenceNumber="ORD-1")
    assert (repeat.status_code, repeat.json()["redemptionId"]) == (200, redemption.public_id)


# One clock: the database's


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize(("seconds", "has_expired"), [(-1, False), (0, True)])
def test_database_clock_decides_what_has_expired(
    on_postgresql: None, till: Till, hours: int, seconds: int, has_expired: bool
) -> None:
    redemption = till.redeem(40)
    set_value(till.world.org, "Reversal_reissue_days", "1")
    now = EXPIRY + timedelta(seconds=seconds)
    with clocks(now, skew=hours):
        assert till.points() == ((0.0, 60.0) if has_expired else (60.0, 0.0))
        reply = till.world.reverse(redemption, 30).json()
        assert bool(reply["warnings"]) == has_expired
        redeemed = till.world.redeem(till.world.asha, 60)
        assert redeemed.status_code == (400 if has_expired else 200)
    lots = [(100, 60, 30, False), (30, 30, 0, True)] if has_expired else [(100, 30, 0, False)]
    assert till.lots() == lots
    assert Reversal.objects.get(org=till.world.org).created_at == now
