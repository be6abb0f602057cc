"""Merged customers: everything moves to the survivor, and limits, corrections, seals and laws go on."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from loyalty.errors import InvalidOperation
from loyalty.ledger.groups import set_group
from loyalty.models import Customer, CustomerMerge, GroupMember, Lot, Redemption, StaffChange
from reversals.assurance.sealing.checking import check_seals
from reversals.assurance.sealing.seals import seal_ledger
from reversals.assurance.verification import broken_laws
from reversals.manual.merging import merge_customers
from reversals.models import Delivery, Event, Reversal, SealedRow
from reversals.privacy.erasing import erase_customer
from reversals.privacy.exporting import export_customer
from tests.builders import (
    World,
    correct,
    in_days,
    make_customer,
    make_lot,
    make_webhook,
    make_world,
    redeem,
    request_for,
    set_value,
)
from tests.database.test_import import import_ledger, lot_row, redemption_row, write
from tests.movements.test_races import at_once


def merge(world: World, source: Customer, target: Customer) -> None:
    merge_customers(
        org=world.org,
        source_id=source.public_id,
        target_id=target.public_id,
        ticket="T-1",
        reason="the same customer twice",
        made_by="meera",
    )


def lock(customer: Customer, until: datetime | None) -> None:
    Customer.objects.filter(id=customer.id).update(reversals_locked=True, reversals_locked_until=until)


def reason_of(response: Any) -> tuple[int, str]:
    [error] = response.json()["errors"]
    return error["code"], error["reason"]


def redeemed_by(customer: Customer, world: World) -> Redemption:
    """Redeems the 30 points of a new lot of the customer."""
    make_lot(customer, 30, program=world.program)
    return redeem(customer, 30, program=world.program)


@pytest.fixture
def ravi(world: World) -> Customer:
    return make_customer(world.org, identifiers={"EMAIL": "ravi@example.com"})


def test_everything_of_a_merged_customer_belongs_to_the_survivor(world: World, ravi: Customer) -> None:
    lot = make_lot(ravi, 100, program=world.program)
    redemption = redeem(ravi, 30, program=world.program)
    set_group(org=world.org, public_id=7, add=[ravi.public_id])
    merge(world, ravi, world.asha)

    ravi.refresh_from_db()
    lot.refresh_from_db()
    redemption.refresh_from_db()
    assert (ravi.status, ravi.merged_into) == ("MERGED", world.asha)
    assert (lot.customer, lot.first_customer) == (world.asha, ravi)
    assert (redemption.customer, redemption.first_customer) == (world.asha, ravi)
    assert [each.value for each in world.asha.identifiers.all()] == ["ravi@example.com"]
    assert GroupMember.objects.get(org=world.org, left_at__isnull=True).customer == world.asha
    assert world.read(f"/v2/customers/{world.asha.public_id}/points").json()["available"] == 70.0
    assert world.read(f"/v2/customers/{ravi.public_id}/points").json()["available"] == 0.0
    assert broken_laws(world.org.id) == []


def test_survivors_identifier_reverses_and_redeems(world: World, ravi: Customer) -> None:
    redemption = redeemed_by(ravi, world)
    merge(world, ravi, world.asha)
    asked = {"redemptionId": redemption.public_id, "identifier": {"type": "EMAIL", "value": "ravi@example.com"}}
    answer = world.ask(asked | {"pointsToBeReversed": 10})
    assert (answer.status_code, answer.json()["customerId"]) == (200, world.asha.public_id)
    redemption.refresh_from_db()
    assert world.reverse(redemption, 5).json()["customerId"] == world.asha.public_id
    assert world.redeem(world.asha, 15).status_code == 200
    assert broken_laws(world.org.id) == []


def test_id_of_the_merged_customer_is_901_with_the_identifier_to_send(world: World, ravi: Customer) -> None:
    redemption = redeemed_by(ravi, world)
    merge(world, ravi, world.asha)
    asked = request_for(redemption, 10, identifier={"type": "ID", "value": str(ravi.public_id)})
    code, reason = reason_of(world.ask(asked))
    assert code == 901
    assert str(world.asha.public_id) in reason
    code, reason = reason_of(world.redeem(ravi, 5))
    assert code == 8069
    assert str(world.asha.public_id) in reason
    assert reason_of(world.ask(asked | {"redemptionId": "UNKNOWN"}))[0] == 804
    assert Reversal.objects.filter(org=world.org).count() == 0


def test_repeat_of_a_redemption_from_before_the_merge_is_the_first_redemption(world: World, ravi: Customer) -> None:
    make_lot(ravi, 100, program=world.program)
    first = world.redeem(ravi, 30, externalReferenceNumber="ORD-1").json()
    merge(world, ravi, world.asha)
    again = world.redeem(ravi, 30, externalReferenceNumber="ORD-1")
    assert (again.status_code, again.json()["redemptionId"]) == (200, first["redemptionId"])
    assert again.headers["Idempotent-Replayed"] == "true"


def test_limits_count_reversals_from_before_the_merge(ravi: Customer, world: World) -> None:
    set_value(world.org, "Reversal_limit_count", "2")
    redemption = redeemed_by(ravi, world)
    assert world.reverse(redemption, 1, key="1").status_code == 200
    assert world.reverse(redemption, 2, key="2").status_code == 200
    merge(world, ravi, world.asha)
    redemption.refresh_from_db()
    assert reason_of(world.reverse(redemption, 3, key="3"))[0] == 903


def test_reversal_from_before_the_merge_is_corrected_and_listed(world: World, ravi: Customer) -> None:
    redemption = redeemed_by(ravi, world)
    world.reverse(redemption, 10)
    merge(world, ravi, world.asha)
    reversal = Reversal.objects.get(org=world.org)
    listed = world.read("/v2/points/reversals", customerId=str(world.asha.public_id)).json()["reversals"]
    assert [(each["reversalId"], each["role"]) for each in listed] == [(reversal.public_id, "TRANSACTING")]
    assert correct(reversal).error is None
    redemption.refresh_from_db()
    assert redemption.points_reversed == 0
    assert broken_laws(world.org.id) == []


def test_chain_of_merges_leads_to_the_last_survivor(world: World, ravi: Customer) -> None:
    zoya = make_customer(world.org)
    redemption = redeemed_by(ravi, world)
    world.reverse(redemption, 10)
    merge(world, ravi, zoya)
    merge(world, zoya, world.asha)
    ravi.refresh_from_db()
    redemption.refresh_from_db()
    assert (ravi.merged_into, redemption.customer, redemption.first_customer) == (world.asha, world.asha, ravi)
    assert world.reverse(redemption, 5).status_code == 200
    assert broken_laws(world.org.id) == []


def test_merge_keeps_every_seal_and_is_sealed_itself(world: World, ravi: Customer, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    redeemed_by(ravi, world)
    seal_ledger(anchor)
    merge(world, ravi, world.asha)
    assert check_seals(anchor).problems == []
    seal_ledger(anchor)
    assert check_seals(anchor).problems == []
    assert SealedRow.objects.filter(org=world.org, kind=SealedRow.Kind.MERGE).count() == 1


def test_lot_given_to_another_customer_without_a_merge_breaks_a_law(world: World, ravi: Customer) -> None:
    lot = make_lot(ravi, 10, program=world.program)
    Lot.objects.filter(id=lot.id).update(customer=world.asha, first_customer=ravi)
    assert [row.law for row in broken_laws(world.org.id)] == [
        "a lot that a merge moved belongs to the customer into whom its first customer was merged"
    ]


def test_webhooks_get_the_event_of_a_merge(world: World, ravi: Customer) -> None:
    make_webhook(world.org)
    make_lot(ravi, 10, program=world.program)
    merge(world, ravi, world.asha)
    event = Delivery.objects.get(org=world.org).event
    assert event.name == "customersMerged"
    assert json.loads(event.data) == {
        "mergedCustomerId": ravi.public_id,
        "customerId": world.asha.public_id,
        "lotsMoved": 1,
        "redemptionsMoved": 0,
    }


def test_both_customers_have_the_merge_in_their_history(world: World, ravi: Customer) -> None:
    merge(world, ravi, world.asha)
    changes = StaffChange.objects.filter(org=world.org).order_by("id").values_list("subject_id", "action", "made_by")
    assert list(changes) == [
        (str(ravi.id), "merged", "meera"),
        (str(world.asha.id), "received a merge", "meera"),
    ]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda world, ravi: merge(world, ravi, make_customer(world.org)), "was merged into customer"),
        (lambda world, ravi: merge(world, world.asha, make_customer(world.org)), "merge into that one"),
        (lambda world, ravi: Customer.objects.filter(id=ravi.id).update(status="FRAUD"), "would be lost"),
        (lambda world, ravi: lock(ravi, None), "unlock them first"),
        (lambda world, ravi: (lock(ravi, None), lock(world.asha, in_days(9))), "unlock them first"),
        (lambda world, ravi: (lock(ravi, in_days(9)), lock(world.asha, in_days(8))), "unlock them first"),
        (lambda world, ravi: (lock(ravi, in_days(1)), lock(world.asha, in_days(-1))), "unlock them first"),
        (lambda world, ravi: Customer.objects.filter(id=ravi.id).update(erased_at=in_days(0)), "was erased"),
    ],
)
def test_merge_that_would_lose_something_is_refused(
    world: World, ravi: Customer, spoil: Callable[[World, Customer], Any], expected: str
) -> None:
    spoil(world, ravi)
    merges = CustomerMerge.objects.filter(org=world.org).count()
    with pytest.raises(InvalidOperation, match=expected):
        merge(world, ravi, world.asha)
    assert CustomerMerge.objects.filter(org=world.org).count() == merges


@pytest.mark.parametrize(("of_source", "of_target"), [(-1, -1), (8, 9), (8, None)])
def test_lock_that_ends_no_later_than_that_of_the_survivor_does_not_hinder_a_merge(
    world: World, ravi: Customer, of_source: int, of_target: int | None
) -> None:
    lock(ravi, in_days(of_source))
    lock(world.asha, None if of_target is None else in_days(of_target))
    merge(world, ravi, world.asha)
    assert CustomerMerge.objects.filter(org=world.org).count() == 1


def test_customer_cannot_be_merged_into_itself(world: World) -> None:
    with pytest.raises(InvalidOperation, match="two different customers"):
        merge(world, world.asha, world.asha)


def test_customer_of_another_org_cannot_be_merged(world: World, ravi: Customer) -> None:
    stranger = make_world().asha
    with pytest.raises(InvalidOperation, match=f"org {world.org.id} has no customer {stranger.public_id}"):
        merge(world, ravi, stranger)


def test_command_merges_and_prints_what_moved(world: World, ravi: Customer, capsys: pytest.CaptureFixture[str]) -> None:
    make_lot(ravi, 10, program=world.program)
    words = [str(world.org.id), str(ravi.public_id), str(world.asha.public_id), "--ticket", "T-1", "--by", "meera"]
    call_command("merge_customers", *words, "--reason", "twice", "--json")
    printed = json.loads(capsys.readouterr().out)
    assert (printed["lots"], printed["redemptions"], printed["identifiers"]) == (1, 0, 1)
    with pytest.raises(CommandError, match="was merged into customer"):
        call_command("merge_customers", *words, "--reason", "twice")


@pytest.mark.usefixtures("committed", "on_postgresql")
def test_reversals_that_race_with_a_merge_are_made_once_or_refused() -> None:
    """Refused with 901, or with 896 if they waited for a lock too long."""
    world = make_world()
    ravi = make_customer(world.org)
    redemption = redeemed_by(ravi, world)
    calls = [lambda n=n: world.reverse(redemption, 1, key=f"k-{n}") for n in range(10)]
    calls.insert(5, lambda: merge(world, ravi, world.asha))
    answers = [answer for answer in at_once(calls) if answer is not None]
    outcomes = [0 if answer.status_code == 200 else answer.json()["errors"][0]["code"] for answer in answers]
    assert set(outcomes) <= {0, 896, 901}
    reversed_points = Redemption.objects.get(id=redemption.id).points_reversed
    assert reversed_points == Decimal(outcomes.count(0))
    assert broken_laws(world.org.id) == []


@pytest.mark.usefixtures("committed", "on_postgresql")
def test_reversal_that_waits_for_a_merge_is_901() -> None:
    world = make_world()
    ravi = make_customer(world.org)
    redemption = redeemed_by(ravi, world)
    with transaction.atomic():
        merge(world, ravi, world.asha)
        waiting = ThreadPoolExecutor(1)
        answer = waiting.submit(lambda: at_once([lambda: world.reverse(redemption, 1)])[0])
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.5)")
    assert reason_of(answer.result(timeout=30))[0] == 901


def test_export_after_a_chain_of_merges_has_each_merge_and_change(world: World, ravi: Customer) -> None:
    zoya = make_customer(world.org)
    set_group(org=world.org, public_id=1, add=[ravi.public_id])
    merge(world, ravi, zoya)
    merge(world, zoya, world.asha)
    exported = export_customer(world.asha)
    assert [(each["source_public_id"], each["target_public_id"]) for each in exported["merges"]] == [
        (ravi.public_id, zoya.public_id),
        (zoya.public_id, world.asha.public_id),
    ]
    assert len(exported["groups"]) == 3
    assert [each["action"] for each in exported["staff_changes"]] == ["merged", "received a merge"] * 2
    assert export_customer(Customer.objects.get(id=ravi.id))["merged_into"] == world.asha.public_id


def test_identity_of_a_merged_customer_is_erased_at_the_survivor(world: World, ravi: Customer) -> None:
    merge(world, ravi, world.asha)
    with pytest.raises(InvalidOperation, match=f"merged into customer {world.asha.public_id}"):
        erase_customer(ravi, ticket="T-2", reason="asked for it", made_by="meera")
    ravi.refresh_from_db()
    assert ravi.erased_at is None


@pytest.mark.usefixtures("committed", "on_postgresql")
@pytest.mark.parametrize("first", ["import", "merge"])
def test_points_imported_during_a_merge_go_to_the_survivor(tmp_path: Path, first: str) -> None:
    world = make_world()
    ravi = make_customer(world.org)
    rows = [lot_row(world, "L1", 10, customer_id=ravi.public_id)]
    write(tmp_path, points=rows, redemptions=[redemption_row(world, "R1", 4, customer_id=ravi.public_id)])
    steps = {"import": lambda: import_ledger(tmp_path), "merge": lambda: merge(world, ravi, world.asha)}
    other = steps["merge" if first == "import" else "import"]
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            steps[first]()
            waiting = pool.submit(lambda: at_once([other])[0])
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.5)")
        waiting.result(timeout=30)
    owners = Lot.objects.filter(org=world.org).values_list("customer_id", "first_customer_id", "points_remaining")
    assert list(owners) == [(world.asha.id, ravi.id, 6)]
    assert broken_laws(world.org.id) == []


def test_survivors_data_is_exported_and_erased_with_that_of_the_merged_customer(world: World, ravi: Customer) -> None:
    make_webhook(world.org)
    redemption = redeemed_by(ravi, world)
    asked = {"redemptionId": redemption.public_id, "identifier": {"type": "EMAIL", "value": "ravi@example.com"}}
    assert world.ask(asked | {"pointsToBeReversed": 10}).status_code == 200
    merge_customers(
        org=world.org,
        source_id=ravi.public_id,
        target_id=world.asha.public_id,
        ticket="T-1",
        reason="ravi@example.com called",
        made_by="meera",
    )
    exported = export_customer(world.asha)
    assert [len(exported[kind]) for kind in ("reversals", "lines", "attempts", "merges", "events")] == [1, 1, 1, 1, 2]
    erase_customer(world.asha, ticket="T-2", reason="asked for it", made_by="meera")
    texts = [*Event.objects.values_list("data", flat=True), *CustomerMerge.objects.values_list("reason", flat=True)]
    assert not [text for text in texts if "ravi@example.com" in text]
    assert broken_laws(world.org.id) == []
