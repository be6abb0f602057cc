"""Tests events for webhooks: when they are written, which webhooks get them, and their contents."""

import json
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import ProgrammingError, connection, transaction
from django.utils import timezone

from loyalty.ledger.groups import set_group
from loyalty.models import Redemption
from reversals.models import Delivery, Event, Reversal
from reversals.webhooks import outbox
from tests.builders import (
    ON,
    World,
    days_ago,
    in_days,
    make_customer,
    make_lot,
    make_program,
    make_webhook,
    make_world,
    redeem,
    redeemed,
    request_for,
    set_value,
)

pytestmark = pytest.mark.django_db


def events_of(world: World) -> list[Event]:
    return list(Event.objects.filter(org=world.org).order_by("id"))


def sent(event: Event) -> dict[str, Any]:
    return json.loads(outbox.body_of(event))


# When events are written


def test_reversal_adds_one_event_and_a_delivery_for_each_webhook(world: World) -> None:
    webhooks = [make_webhook(world.org) for _ in range(2)]
    assert world.reverse(redeemed(world), 2).status_code == 200
    [event] = events_of(world)
    deliveries = Delivery.objects.filter(event=event)
    assert {delivery.webhook for delivery in deliveries} == set(webhooks)
    assert {(delivery.status, delivery.customer, delivery.tries) for delivery in deliveries} == {
        ("PENDING", world.asha, 0)
    }
    assert {delivery.give_up_at - delivery.due_at for delivery in deliveries} == {timedelta(days=7)}


def test_refusal_adds_no_event(world: World) -> None:
    make_webhook(world.org)
    set_value(world.org, ON, "no")
    assert world.reverse(redeemed(world), 2).status_code == 400
    assert events_of(world) == []


def test_replay_adds_no_event(world: World) -> None:
    make_webhook(world.org)
    redemption = redeemed(world)
    for _ in range(2):
        assert world.reverse(redemption, 2, key="key-1").status_code == 200
    assert len(events_of(world)) == 1


def test_event_is_rolled_back_with_its_reversal(world: World) -> None:
    make_webhook(world.org)
    with transaction.atomic():
        assert world.reverse(redeemed(world), 2).status_code == 200
        transaction.set_rollback(True)
    assert (events_of(world), Reversal.objects.filter(org=world.org).count()) == ([], 0)


def test_reversal_is_rolled_back_if_its_event_cannot_be_written(world: World) -> None:
    make_webhook(world.org)
    redemption = redeemed(world)

    def fail(execute: Any, sql: str, *rest: Any) -> Any:
        if "INSERT INTO" in sql and "reversals_event" in sql:
            raise ProgrammingError("the column does not exist")
        return execute(sql, *rest)

    with connection.execute_wrapper(fail):
        assert world.reverse(redemption, 2).status_code == 500
    redemption.refresh_from_db()
    assert (redemption.points_reversed, Reversal.objects.filter(org=world.org).count()) == (0, 0)


def test_webhook_of_another_org_gets_no_event(world: World) -> None:
    stranger = make_webhook(make_world().org)
    make_webhook(world.org)
    world.reverse(redeemed(world), 2)
    assert not Delivery.objects.filter(webhook=stranger).exists()


def test_webhook_gets_only_subscribed_events_and_only_while_active(world: World) -> None:
    make_webhook(world.org, event_names=["pointsRedeemed"])
    inactive = make_webhook(world.org)
    inactive.is_active = False
    inactive.save()
    world.reverse(redeemed(world), 2)
    assert events_of(world) == []


def test_event_ids_rise(world: World) -> None:
    make_webhook(world.org)
    redemption = redeemed(world)
    for amount in (1, 2, 3):
        world.reverse(redemption, amount)
    numbers = [event.number for event in events_of(world)]
    assert [sent(event)["data"]["redeemedPointsReversed"] for event in events_of(world)] == [1.0, 2.0, 3.0]
    assert numbers == sorted(numbers)
    assert max(numbers) < 2**53  # exact in JavaScript


def test_event_ids_rise_although_the_clock_was_set_back(world: World) -> None:
    make_webhook(world.org)
    redemption = redeemed(world)
    with time_machine.travel(timezone.now() + timedelta(hours=1), tick=True):
        world.reverse(redemption, 1)
    world.reverse(redemption, 2)
    assert [sent(event)["data"]["redeemedPointsReversed"] for event in events_of(world)] == [1.0, 2.0]
    first, second = [event.number for event in events_of(world)]
    assert second == first + 1


# Contents


def test_reversal_event_has_the_published_shape(world: World) -> None:
    """Of 10 points, 6 go to an expired lot of one program and 2 to a lot of another."""
    make_webhook(world.org)
    bonus = make_program(world.org)
    make_lot(world.asha, 8, program=bonus, expires_at=days_ago(0.5))
    make_lot(world.asha, 2, program=world.program, expires_at=in_days(5))
    make_lot(world.asha, 5, program=world.program)
    make_customer(world.org)
    redemption = redeem(world.asha, 10, program=world.program)
    reply = world.reverse(redemption, 8)
    [event] = events_of(world)
    assert reply.json()["pointsReversedDetails"] == {"available": 2.0, "expired": 6.0}
    assert sent(event) == {
        "eventName": "redeemedPointsReversed",
        "eventId": event.event_id,
        "eventLogId": event.number,
        "orgId": world.org.id,
        "refId": f"{world.org.id}_{reply['X-CAP-REQUEST-ID']}",
        "apiRequestId": reply["X-CAP-REQUEST-ID"],
        "createdAt": int(event.created_at.timestamp() * 1000),
        "data": {
            "customerIdentifiers": {"customerId": world.asha.public_id, "instore": {}},
            "entityInformation": {"entityType": "USER", "entityId": world.asha.public_id},
            "triggeringActivity": {
                "name": "PointsRedemptionReversal",
                "identifiers": [{"key": "redemptionId", "value": redemption.public_id}],
                "enteredBy": {"till": {"code": "till.1", "name": "till.1"}},
                "additionalAttributes": [],
            },
            "loyaltyProgramDetails": {
                "id": world.program.public_id,
                "name": "Main",
                "isDefault": True,
                "pointsToCurrencyRatio": 1.0,
                "tiers": [],
            },
            "loyaltyProgramId": world.program.public_id,
            "reversalId": reply.json()["reversalId"],
            "redeemedPointsReversed": 8.0,
            "redeemedPointsReversedDetails": {"available": 2.0, "expired": 6.0},
            "redemptionSummaryId": event.number,
            "redemptionReversalToEarningPrograms": [
                {
                    "programId": world.program.public_id,
                    "redeemedPointsReversed": 2.0,
                    "redeemedPointsReversedDetails": {"available": 2.0, "expired": 0.0},
                    "programCurrentPoints": 7.0,
                },
                {
                    "programId": bonus.public_id,
                    "redeemedPointsReversed": 6.0,
                    "redeemedPointsReversedDetails": {"available": 0.0, "expired": 6.0},
                    "programCurrentPoints": 0.0,
                },
            ],
        },
        "loyaltyEventId": event.number,
    }


def test_reissued_points_count_in_the_redemptions_program(world: World) -> None:
    set_value(world.org, "Reversal_reissue_days", "30")
    make_webhook(world.org)
    make_lot(world.asha, 4, program=make_program(world.org), expires_at=days_ago(0.5))
    world.reverse(redeem(world.asha, 4, program=world.program))
    [event] = events_of(world)
    assert sent(event)["data"]["redemptionReversalToEarningPrograms"] == [
        {
            "programId": world.program.public_id,
            "redeemedPointsReversed": 4.0,
            "redeemedPointsReversedDetails": {"available": 4.0, "expired": 0.0},
            "programCurrentPoints": 4.0,
        }
    ]


@pytest.mark.parametrize(
    ("kind", "value", "instore"),
    [
        ("MOBILE", "919740000000", {"mobile": "919740000000"}),
        ("EMAIL", "Asha@example.com", {"email": "asha@example.com"}),
        ("EXTERNAL_ID", "A-1", {"externalId": "A-1"}),
        ("CARD_NUMBER", "4711", {}),
    ],
)
def test_reversal_event_holds_the_identifier_of_the_call(
    world: World, kind: str, value: str, instore: dict[str, str]
) -> None:
    make_webhook(world.org)
    world.asha = make_customer(world.org, identifiers={kind: value})
    body = request_for(redeemed(world), identifier={"type": kind, "value": value})
    assert world.ask(body).status_code == 200
    [event] = events_of(world)
    identifiers = sent(event)["data"]["customerIdentifiers"]
    assert identifiers == {"customerId": world.asha.public_id, "instore": instore}


def test_redemption_event_has_the_published_shape(world: World) -> None:
    webhook = make_webhook(world.org, event_names=["pointsRedeemed"])
    make_lot(world.asha, "12.5", program=world.program)
    answer = world.redeem(world.asha, 10, transactionNumber="T-1")
    redemption = Redemption.objects.get(org=world.org)
    [event] = events_of(world)
    assert Delivery.objects.get(event=event).webhook == webhook
    assert sent(event) == {
        "eventName": "pointsRedeemed",
        "eventId": event.event_id,
        "eventLogId": event.number,
        "orgId": world.org.id,
        "refId": f"{world.org.id}_{answer['X-CAP-REQUEST-ID']}",
        "apiRequestId": answer["X-CAP-REQUEST-ID"],
        "createdAt": int(redemption.redeemed_at.timestamp() * 1000),
        "data": {
            "customerIdentifiers": {"customerId": world.asha.public_id, "instore": {}},
            "entityInformation": {"entityType": "USER", "entityId": world.asha.public_id},
            "triggeringActivity": {
                "name": "PointsRedemption",
                "identifiers": [
                    {"key": "billId", "value": "-1"},
                    {"key": "redemptionId", "value": redemption.public_id},
                ],
                "enteredBy": {"till": {"code": "till.1", "name": "till.1"}},
                "additionalAttributes": [],
            },
            "loyaltyProgramDetails": {
                "id": world.program.public_id,
                "name": "Main",
                "isDefault": True,
                "pointsToCurrencyRatio": 1.0,
                "tiers": [],
            },
            "loyaltyProgramId": world.program.public_id,
            "redemptionId": redemption.public_id,
            "totalPointsRedeemed": 10.0,
            "redemptionSummaryId": event.number,
            "redeemedPointsCurrencyValue": 10.0,
            "redemptionNotes": "",
            "redemptionBillNumber": "T-1",
            "isGroupRedemption": False,
            "redemptionFromEarningPrograms": [
                {"programId": world.program.public_id, "pointsRedeemed": 10.0, "programCurrentPoints": 2.5}
            ],
        },
        "loyaltyEventId": event.number,
    }
    assert b'"totalPointsRedeemed":10.0,' in outbox.body_of(event)


def test_event_of_group_redemption_holds_points_by_program_and_the_customers_balance(world: World) -> None:
    set_value(world.org, "Enable_cross_member_redemption", "yes")
    other, ravi = make_program(world.org), make_customer(world.org)
    set_group(org=world.org, public_id=1, add=[world.asha.public_id, ravi.public_id])
    make_webhook(world.org)
    make_lot(ravi, 5, program=other, expires_at=in_days(1))
    make_lot(world.asha, 8, program=world.program)
    world.redeem(world.asha, 6, programId=world.program.public_id)
    [event] = events_of(world)
    data = sent(event)["data"]
    assert (data["isGroupRedemption"], data["totalPointsRedeemed"], data["loyaltyProgramId"]) == (
        True,
        6.0,
        world.program.public_id,
    )
    assert data["redemptionFromEarningPrograms"] == [
        {"programId": other.public_id, "pointsRedeemed": 5.0, "programCurrentPoints": 0.0},
        {"programId": world.program.public_id, "pointsRedeemed": 1.0, "programCurrentPoints": 7.0},
    ]


def test_dry_runs_refusals_and_repeats_send_no_event(world: World) -> None:
    make_webhook(world.org)
    make_lot(world.asha, 10, program=world.program)
    redemption = redeemed(world, 10)
    world.redeem(world.asha, 1, commit=False)
    world.redeem(world.asha, 99)
    world.reverse(redemption, 1, address="/v2/points/reverse?dryRun=true")
    assert events_of(world) == []
    for _ in range(2):
        world.redeem(world.asha, 1, externalReferenceNumber="E-1")
    assert [event.name for event in events_of(world)] == ["pointsRedeemed"]


# Purging


def test_purge_removes_old_events_that_no_webhook_waits_for(world: World) -> None:
    make_webhook(world.org)
    redemption = redeemed(world)
    for amount in (1, 2, 3):
        world.reverse(redemption, amount)
    delivered, waiting, recent = events_of(world)
    Delivery.objects.exclude(event=waiting).update(status=Delivery.Status.DELIVERED)
    Event.objects.exclude(id=recent.id).update(created_at=days_ago(31))
    assert outbox.purge(before=days_ago(30)) == 1
    assert events_of(world) == [waiting, recent]
    assert not Delivery.objects.filter(event_id=delivered.id).exists()
