"""Tests groups: members redeem each other's points, and reversals add the points to their owners' lots."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from loyalty.errors import InvalidOperation
from loyalty.ledger.groups import set_group
from loyalty.models import Customer, CustomerGroup, GroupMember, Lot, Redemption
from reversals.assurance.verification import broken_laws
from tests.builders import World, days_ago, in_days, make_customer, make_lot, make_world, set_value

pytestmark = pytest.mark.django_db

GROUP = 77
CROSS_MEMBER = "Enable_cross_member_redemption"


def day(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


@dataclass
class Family:
    """A group of Asha and Ravi. Ravi's points expire first."""

    world: World
    ravi: Customer
    his: Lot
    hers: Lot

    @property
    def asha(self) -> Customer:
        return self.world.asha

    def remaining(self) -> list[float]:
        return [float(Lot.objects.get(id=lot.id).points_remaining) for lot in (self.his, self.hers)]

    def redeem(self, amount: object) -> Redemption:
        response = self.world.redeem(self.asha, amount)
        assert response.status_code == 200
        return Redemption.objects.get(org=self.world.org, public_id=response.json()["redemptionId"])


@pytest.fixture
def family(db: None) -> Family:
    return make_family()


def make_family(**settings: str) -> Family:
    world = make_world(settings={CROSS_MEMBER: "yes"} | settings)
    ravi = make_customer(world.org)
    set_group(org=world.org, public_id=GROUP, add=[world.asha.public_id, ravi.public_id])
    his = make_lot(ravi, 100, program=world.program, expires_at=in_days(10))
    hers = make_lot(world.asha, 50, program=world.program, expires_at=in_days(20))
    return Family(world, ravi, his, hers)


def test_member_redeems_points_of_all_members_by_expiry(family: Family) -> None:
    body = family.world.redeem(family.asha, 120).json()
    assert [(draw["memberId"], draw["points"]) for draw in body["draws"]] == [
        (family.ravi.public_id, 100.0),
        (family.asha.public_id, 20.0),
    ]
    assert body["crossMemberRedemptionBreakup"] == [
        {
            "memberId": family.asha.public_id,
            "pointsRedeemed": 20.0,
            "expiryBatchDate": day(family.hers.expires_at),
        },
        {
            "memberId": family.ravi.public_id,
            "pointsRedeemed": 100.0,
            "expiryBatchDate": day(family.his.expires_at),
        },
    ]
    assert body["balance"] == 30.0
    assert family.remaining() == [0, 30]
    assert broken_laws(family.world.org.id) == []


def test_lots_of_equal_expiry_are_drawn_by_award_then_customer_id() -> None:
    world = make_world(settings={CROSS_MEMBER: "yes"})
    members = [world.asha, make_customer(world.org), make_customer(world.org)]
    set_group(org=world.org, public_id=GROUP, add=[member.public_id for member in members])
    expires_at, awarded_at = in_days(5), days_ago(3)
    for member in reversed(members):
        make_lot(member, 1, program=world.program, expires_at=expires_at, awarded_at=awarded_at)
    make_lot(members[2], 1, program=world.program, expires_at=expires_at, awarded_at=days_ago(4))
    drawn = [draw["memberId"] for draw in world.redeem(members[1], 4).json()["draws"]]
    assert drawn == [member.public_id for member in (members[2], *members)]


def test_reversal_returns_points_to_each_owner(family: Family) -> None:
    redemption = family.redeem(120)
    body = family.world.reverse(redemption, 50).json()
    assert (body["customerId"], body["pointsReversed"]) == (family.asha.public_id, 50.0)
    assert body["crossMemberReversalBreakup"] == [
        {
            "memberId": family.asha.public_id,
            "pointsRestored": 20.0,
            "pointsExpiredByReversal": 0.0,
            "expiryBatchDate": day(family.hers.expires_at),
            "status": "REVERSED",
        },
        {
            "memberId": family.ravi.public_id,
            "pointsRestored": 30.0,
            "pointsExpiredByReversal": 0.0,
            "expiryBatchDate": day(family.his.expires_at),
            "status": "PARTIALLY_REVERSED",
        },
    ]
    assert family.remaining() == [30, 50]
    rest = family.world.reverse(redemption).json()
    assert [(row["memberId"], row["pointsRestored"], row["status"]) for row in rest["crossMemberReversalBreakup"]] == [
        (family.ravi.public_id, 70.0, "REVERSED")
    ]
    assert family.remaining() == [100, 50]
    assert broken_laws(family.world.org.id) == []


def test_reversal_shows_expired_points_of_each_member(family: Family) -> None:
    redemption = family.redeem(120)
    Lot.objects.filter(id=family.his.id).update(expires_at=days_ago(1))
    body = family.world.reverse(redemption).json()
    assert body["pointsReversedDetails"] == {"available": 20.0, "expired": 100.0}
    assert [
        (row["memberId"], row["pointsRestored"], row["pointsExpiredByReversal"])
        for row in body["crossMemberReversalBreakup"]
    ] == [(family.asha.public_id, 20.0, 0.0), (family.ravi.public_id, 100.0, 100.0)]


def test_breakup_has_one_row_per_member_and_expiry_with_null_for_never() -> None:
    family = make_family()
    make_lot(family.ravi, 5, program=family.world.program)
    make_lot(family.ravi, 7, program=family.world.program, expires_at=family.his.expires_at)
    redemption = family.redeem(162)
    rows = family.world.reverse(redemption).json()["crossMemberReversalBreakup"]
    assert [(row["memberId"], row["expiryBatchDate"], row["pointsRestored"]) for row in rows] == [
        (family.asha.public_id, day(family.hers.expires_at), 50.0),
        (family.ravi.public_id, day(family.his.expires_at), 107.0),
        (family.ravi.public_id, None, 5.0),
    ]


def test_expired_points_are_reissued_to_their_owner() -> None:
    family = make_family(Reversal_reissue_days="30")
    redemption = family.redeem(120)
    Lot.objects.filter(org=family.world.org).update(expires_at=days_ago(1))
    body = family.world.reverse(redemption).json()
    assert body["pointsReversedDetails"] == {"available": 120.0, "expired": 0.0}
    reissued = Lot.objects.filter(org=family.world.org, lot_ref__startswith="REISSUE-")
    assert {(lot.customer_id, lot.points_remaining) for lot in reissued} == {
        (family.asha.id, 20),
        (family.ravi.id, 100),
    }
    assert broken_laws(family.world.org.id) == []


@pytest.mark.parametrize("status", ["MERGED", "DEACTIVATED", "FRAUD"])
def test_points_are_reversed_to_a_member_who_is_no_longer_active(family: Family, status: str) -> None:
    redemption = family.redeem(120)
    Customer.objects.filter(id=family.ravi.id).update(status=status)
    body = family.world.reverse(redemption).json()
    assert body["pointsReversedDetails"] == {"available": 120.0, "expired": 0.0}
    assert family.remaining() == [100, 50]
    message = (
        f"100 of the available points belong to customer {family.ravi.public_id}, who cannot spend them because their"
        f" status is {status}."
    )
    assert body["warnings"] == [{"status": True, "code": 1003, "message": message}]


def test_no_warning_about_inactive_member_if_all_their_points_expired(family: Family) -> None:
    redemption = family.redeem(120)
    Customer.objects.filter(id=family.ravi.id).update(status="FRAUD")
    Lot.objects.filter(id=family.his.id).update(expires_at=days_ago(1))
    assert [warning["code"] for warning in family.world.reverse(redemption).json()["warnings"]] == [1001]


def test_limits_apply_to_the_owner_of_the_reversed_points(db: None) -> None:
    family = make_family(Reversal_limit_count="1", Reversal_limit_points="100")
    meera = make_customer(family.world.org)
    set_group(org=family.world.org, public_id=GROUP, add=[meera.public_id])
    first, second = family.redeem(40), family.world.redeem(meera, 40).json()["redemptionId"]
    assert family.world.reverse(first).status_code == 200
    refused = family.world.reverse(Redemption.objects.get(org=family.world.org, public_id=second))
    assert refused.json()["errors"][0]["code"] == 903
    assert str(family.ravi.public_id) not in refused.content.decode()
    assert family.remaining() == [60, 50]


def test_points_limit_counts_only_own_points_in_other_members_redemptions(db: None) -> None:
    family = make_family(Reversal_limit_points="130")
    big = family.redeem(120)  # 100 of his, 20 of hers
    assert family.world.reverse(big, 20).status_code == 200  # only hers
    family.world.reverse(big, 100)  # his: 100 of 130
    his_own = family.world.redeem(family.ravi, 31).json()["redemptionId"]
    redemption = Redemption.objects.get(org=family.world.org, public_id=his_own)
    refused = family.world.reverse(redemption, 31).json()["errors"][0]
    assert (refused["code"], "allows 130 points within 30 days: 100 already reversed" in refused["reason"]) == (
        903,
        True,
    )
    assert family.world.reverse(redemption, 30).status_code == 200


def test_points_are_reversed_to_a_member_who_left_the_group(family: Family) -> None:
    redemption = family.redeem(120)
    set_group(org=family.world.org, public_id=GROUP, remove=[family.ravi.public_id])
    assert "crossMemberReversalBreakup" in family.world.reverse(redemption).json()
    assert family.remaining() == [100, 50]


def test_group_redemption_is_found_only_by_the_customer_who_redeemed(family: Family) -> None:
    redemption = family.redeem(120)
    refused = family.world.reverse(redemption, 1, address="/v2/points/reverse")
    assert refused.status_code == 200
    by_ravi = {"redemptionId": redemption.public_id, "identifier": {"type": "ID", "value": str(family.ravi.public_id)}}
    assert family.world.ask(by_ravi).json()["errors"][0]["code"] == 804


def test_second_try_with_locked_members_makes_one_attempt_and_one_reversal(family: Family) -> None:
    """The first try finds the owners of the lots; the second locks them. One attempt and one reversal result."""
    redemption = family.redeem(120)
    attempts = len(family.world.attempts())
    assert family.world.reverse(redemption, 120, key="key-1").status_code == 200
    assert len(family.world.attempts()) == attempts + 1
    assert redemption.reversals.count() == 1


def nothing_is_shared(family: Family) -> None:
    body = family.world.redeem(family.asha, 60).json()
    assert body["errors"][0]["reason"] == "60 points requested, 50 available."
    alone = family.world.redeem(family.asha, 10).json()
    assert "crossMemberRedemptionBreakup" not in alone
    assert family.remaining() == [100, 40]
    redemption = Redemption.objects.get(org=family.world.org, public_id=alone["redemptionId"])
    assert "crossMemberReversalBreakup" not in family.world.reverse(redemption).json()


def test_members_share_nothing_while_the_setting_is_off(family: Family) -> None:
    set_value(family.world.org, CROSS_MEMBER, "no")
    nothing_is_shared(family)


def test_inactive_group_shares_nothing(family: Family) -> None:
    CustomerGroup.objects.filter(org=family.world.org).update(is_active=False)
    nothing_is_shared(family)


def test_member_who_left_shares_nothing(family: Family) -> None:
    set_group(org=family.world.org, public_id=GROUP, remove=[family.ravi.public_id])
    nothing_is_shared(family)


@pytest.mark.parametrize("status", ["FRAUD", "DEACTIVATED", "MERGED"])
def test_inactive_member_shares_nothing(family: Family, status: str) -> None:
    Customer.objects.filter(id=family.ravi.id).update(status=status)
    nothing_is_shared(family)


def test_group_of_another_org_shares_nothing(family: Family) -> None:
    stranger = make_family()
    assert stranger.world.redeem(stranger.asha, 151).json()["errors"][0]["code"] == 818
    assert family.remaining() == [100, 50]


def test_group_redemption_of_own_points_has_no_breakup(family: Family) -> None:
    make_lot(family.asha, 5, program=family.world.program, expires_at=in_days(1))
    body = family.world.redeem(family.asha, 5).json()
    assert "crossMemberRedemptionBreakup" not in body


def test_member_who_joins_during_the_wait_for_locks_is_not_drawn_on(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loyalty.ledger import locks

    joiner = make_customer(family.world.org)
    lot = make_lot(joiner, 9, program=family.world.program, expires_at=in_days(1))
    lock = locks.lock_customers

    def lock_while_a_member_joins(**options: Any) -> Any:
        locked = lock(**options)
        GroupMember.objects.create(
            org=family.world.org,
            group=CustomerGroup.objects.get(public_id=GROUP, org=family.world.org),
            customer=joiner,
            joined_at=days_ago(0),
        )
        return locked

    monkeypatch.setattr(locks, "lock_customers", lock_while_a_member_joins)
    assert family.world.redeem(family.asha, 10).status_code == 200
    assert Lot.objects.get(id=lot.id).points_remaining == 9


# Creating groups


def members(world: World) -> set[int]:
    current = GroupMember.objects.filter(org=world.org, left_at__isnull=True)
    return set(current.values_list("customer__public_id", flat=True))


def test_set_group_creates_a_group_and_prints_its_members(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    call_command(
        "set_group", str(world.org.id), "7", "--name", "The Raos", "--add", str(world.asha.public_id), "--json"
    )
    printed = f'{{"org_id": {world.org.id}, "group_id": 7, "name": "The Raos", "members": [{world.asha.public_id}]}}\n'
    assert capsys.readouterr().out == printed


def test_adding_or_removing_a_member_twice_changes_nothing(world: World) -> None:
    for _ in range(2):
        set_group(org=world.org, public_id=7, name="The Raos", add=[world.asha.public_id])
    assert (members(world), GroupMember.objects.filter(org=world.org).count()) == ({world.asha.public_id}, 1)
    for _ in range(2):
        set_group(org=world.org, public_id=7, remove=[world.asha.public_id])
    assert (members(world), CustomerGroup.objects.get(org=world.org).name) == (set(), "The Raos")


def test_member_must_leave_a_group_before_joining_another(world: World) -> None:
    asha = world.asha.public_id
    set_group(org=world.org, public_id=7, add=[asha])
    with pytest.raises(InvalidOperation, match="is in group 7; remove the customer from it first"):
        set_group(org=world.org, public_id=8, add=[asha])
    set_group(org=world.org, public_id=7, remove=[asha])
    set_group(org=world.org, public_id=8, add=[asha])
    assert GroupMember.objects.get(org=world.org, left_at__isnull=True).group.public_id == 8


def test_invalid_group_is_refused_and_not_stored(world: World) -> None:
    asha, stranger = world.asha.public_id, make_world().asha.public_id
    for words, message in (
        (["7", "--add", str(asha), str(stranger)], f"has no customer {stranger}"),
        (["7", "--add", str(asha), "--remove", str(asha)], "both added and removed"),
        (["0", "--add", str(asha)], "greater than or equal to 1"),
        (["7", "--name", "x" * 201], "at most 200 characters"),
    ):
        with pytest.raises(CommandError, match=message):
            call_command("set_group", str(world.org.id), *words)
    assert (members(world), CustomerGroup.objects.filter(org=world.org).exists()) == (set(), False)


def test_group_cannot_redeem_more_than_it_has(family: Family) -> None:
    assert family.world.redeem(family.asha, 150.001).json()["errors"][0]["code"] == 818
    assert family.world.redeem(family.asha, 150).status_code == 200
    assert family.remaining() == [0, 0]
