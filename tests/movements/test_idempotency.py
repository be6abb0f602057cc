"""Tests repeats: a key replays its reply byte for byte; without a key, the same request is a duplicate."""

import json
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from loyalty.clients.api_clients import create_api_client
from reversals.models import Attempt, Reversal
from tests.builders import (
    ON,
    World,
    days_ago,
    make_customer,
    make_lot,
    make_world,
    redeem,
    redeemed,
    request_for,
    set_value,
)

pytestmark = pytest.mark.django_db


def test_same_key_replays_the_reply_byte_for_byte_and_writes_nothing(world: World) -> None:
    redemption = redeemed(world, 10)
    first = world.reverse(redemption, 2, key="key-1")
    set_value(world.org, ON, "no")
    before, attempts = world.written(), len(world.attempts())
    again = world.reverse(redemption, 2, key="key-1")
    assert (again.status_code, again.content) == (200, first.content)
    assert "Idempotent-Replayed" not in first.headers
    assert again["Idempotent-Replayed"] == "true"
    assert again["X-CAP-REQUEST-ID"] != first["X-CAP-REQUEST-ID"]
    assert (world.written(), len(world.attempts())) == (before, attempts)


def test_requests_are_compared_by_meaning_not_by_bytes(world: World) -> None:
    redemption = redeemed(world, 10)
    body = request_for(redemption, 2)
    first = world.ask(body, key="key-1")
    respelled = json.dumps(dict(reversed(body.items())) | {"pointsToBeReversed": 2.0, "note": "x"}, indent=3)
    again = world.ask(respelled.encode(), key='"key-1"')
    assert (again.status_code, again.content) == (200, first.content)
    assert Reversal.objects.filter(org=world.org).count() == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"pointsToBeReversed": 3},
        {"pointsToBeReversed": None},
        {"programId": 1},
        {"redemptionId": "other"},
        {"identifier": {"type": "ID", "value": "1"}},
        {"identifier": {"type": "EMAIL", "value": "a@b.c"}},
        {"redemptionId": None, "externalReferenceNumber": "ORD-1"},
    ],
)
def test_same_key_with_a_different_request_is_422(world: World, changes: dict[str, object]) -> None:
    redemption = redeemed(world, 10)
    world.reverse(redemption, 2, key="key-1")
    response = world.ask(request_for(redemption, 2) | changes, key="key-1")
    assert (response.status_code, response.json()["errors"][0]["code"]) == (422, 887)
    assert world.attempts()[-1].rule == "KEY_OF_ANOTHER_REQUEST"
    assert Reversal.objects.filter(org=world.org).count() == 1


def test_key_belongs_to_the_org_and_not_to_one_client(world: World) -> None:
    redemption = redeemed(world, 10)
    first = world.reverse(redemption, 2, key="key-1")
    _, secret = create_api_client(org=world.org, username="till.2")
    again = world.reverse(redemption, 2, key="key-1", user="till.2", password=secret)
    assert again.content == first.content
    stranger = make_world()
    assert stranger.reverse(redeemed(stranger, 10), 2, key="key-1").status_code == 200


def test_final_refusal_replays_for_31_days_even_after_its_cause_is_gone(world: World) -> None:
    set_value(world.org, ON, "no")
    redemption = redeemed(world, 10)
    first = world.reverse(redemption, 2, key="key-1")
    set_value(world.org, ON, "yes")
    again = world.reverse(redemption, 2, key="key-1")
    assert (again.status_code, again.content) == (first.status_code, first.content) == (400, first.content)
    assert again["Idempotent-Replayed"] == "true"
    with time_machine.travel(timezone.now() + timedelta(days=31, minutes=1)):
        assert world.reverse(redemption, 2, key="key-1").status_code == 200


def test_success_replays_forever(world: World) -> None:
    redemption = redeemed(world, 10)
    first = world.reverse(redemption, 2, key="key-1")
    with time_machine.travel(timezone.now() + timedelta(days=4000)):
        assert world.reverse(redemption, 2, key="key-1").content == first.content


def test_refusal_that_is_not_final_leaves_the_key_free(world: World) -> None:
    redemption = redeemed(world, 10)
    assert world.reverse(redemption, 2, key="key-1", password="wrong").status_code == 401
    assert world.reverse(redemption, 0, key="key-1").status_code == 400
    assert world.reverse(redemption, 1.0001, key="key-1").status_code == 400
    assert world.ask(b"", key="key-1", content_type="text/plain").status_code == 415
    set_value(world.org, "Reversal_paused", "yes")
    assert world.reverse(redemption, 2, key="key-1").status_code == 503
    set_value(world.org, "Reversal_paused", "maybe")
    assert world.reverse(redemption, 2, key="key-1").status_code == 500
    set_value(world.org, "Reversal_paused", "no")
    assert world.reverse(redemption, 2, key="key-1").status_code == 200


def test_refusal_of_points_from_no_lot_leaves_the_key_free(world: World) -> None:
    redemption = redeem(world.asha, 10, program=world.program)
    assert world.reverse(redemption, key="key-1").json()["errors"][0]["code"] == 899
    set_value(world.org, "Reversal_reissue_days", "30")
    assert world.reverse(redemption, key="key-1").status_code == 200


@pytest.mark.parametrize("key", ["", "a b", "a,b", "ключ", "x" * 256, '"open', "a" * 10 + "\t"])
def test_malformed_key_is_887(world: World, key: str) -> None:
    redemption = redeemed(world, 10)
    response = world.ask(request_for(redemption, 2), HTTP_IDEMPOTENCY_KEY=key)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (400, 887)
    assert response.json()["errors"][0]["reason"].startswith("Idempotency-Key: expected ")


def test_x_idempotency_key_is_read_if_idempotency_key_is_missing(world: World) -> None:
    redemption = redeemed(world, 10)
    first = world.reverse(redemption, 2, headers={"X-Idempotency-Key": "key-1"})
    again = world.reverse(redemption, 2, headers={"X-Idempotency-Key": '"key-1"'})
    by_the_usual_name = world.reverse(redemption, 2, key="key-1")
    both = world.reverse(redemption, 2, key="key-1", headers={"X-Idempotency-Key": "key-1"})
    assert [again.content, by_the_usual_name.content, both.content] == [first.content] * 3
    assert [reply.headers.get("Idempotent-Replayed") for reply in (first, again, both)] == [None, "true", "true"]
    assert Reversal.objects.get(org=world.org).has_key
    assert world.attempts()[-1].idempotency_key == "key-1"


@pytest.mark.parametrize(
    ("key", "other", "reason"),
    [
        (
            "key-1",
            "key-2",
            "X-Idempotency-Key: expected the same key as in the Idempotency-Key header, or only one of the two.",
        ),
        (
            None,
            "key,1",
            "X-Idempotency-Key: expected one header of 1 to 255 characters of A-Z a-z 0-9 . _ : + / = ~ -.",
        ),
        (
            "key-1",
            "",
            "X-Idempotency-Key: expected one header of 1 to 255 characters of A-Z a-z 0-9 . _ : + / = ~ -.",
        ),
    ],
)
def test_two_different_or_malformed_key_headers_are_887(world: World, key: str | None, other: str, reason: str) -> None:
    redemption = redeemed(world, 10)
    response = world.reverse(redemption, 2, key=key, headers={"X-Idempotency-Key": other})
    refusal = response.json()["errors"][0]
    assert (response.status_code, refusal["code"], refusal["reason"]) == (400, 887, reason)
    assert world.attempts()[-1].idempotency_key == ""


def test_equal_requests_with_different_keys_are_two_reversals(world: World) -> None:
    redemption = redeemed(world, 10)
    answers = [world.reverse(redemption, 2, key=key) for key in ("key-1", "key-2")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert Reversal.objects.filter(org=world.org).count() == 2


def test_duplicate_without_key_is_refused_and_names_the_first_reversal(world: World) -> None:
    redemption = redeemed(world, 10)
    first = world.reverse(redemption, 2).json()["reversalId"]
    refused = world.reverse(redemption, "2.00").json()["errors"][0]
    assert (refused["code"], first in refused["reason"]) == (902, True)
    assert world.reverse(redemption, 3).status_code == 200


def test_refusal_of_a_fully_reversed_redemption_names_the_last_reversal(world: World) -> None:
    redemption = redeemed(world, 10)
    world.reverse(redemption, 4)
    last = world.reverse(redemption).json()["reversalId"]
    refused = world.reverse(redemption, 4).json()["errors"][0]
    assert refused["reason"] == (f"All points of this redemption are already reversed. The last reversal is {last}.")


def test_duplicate_window_ends_and_can_be_turned_off(world: World) -> None:
    redemption = redeemed(world, 10)
    assert world.reverse(redemption, 2).status_code == 200
    with time_machine.travel(timezone.now() + timedelta(seconds=61)):
        assert world.reverse(redemption, 2).status_code == 200
    set_value(world.org, "Reversal_duplicate_window_seconds", "0")
    assert world.reverse(redemption, 2).status_code == 200


def test_reversal_with_key_does_not_make_a_later_request_a_duplicate(world: World) -> None:
    redemption = redeemed(world, 10)
    assert world.reverse(redemption, 2, key="key-1").status_code == 200
    assert world.reverse(redemption, 2).status_code == 200
    assert world.reverse(redemption, 2, key="key-2").status_code == 200


def test_stored_reply_holds_no_identifier_and_replay_echoes_the_sent_one(world: World) -> None:
    asha = make_customer(world.org, identifiers={"MOBILE": "919740000000"})
    make_lot(asha, 10, program=world.program)
    redemption = redeem(asha, 10, program=world.program)
    body = request_for(redemption, 2, identifier={"type": "mobile", "value": "919740000000"})
    first = world.ask(body, key="key-1")
    kept = Attempt.objects.get(org=world.org, idempotency_key="key-1")
    assert "9740000000" not in kept.reply + kept.identifier_masked
    assert kept.identifier_masked == "********0000"
    assert world.ask(body, key="key-1").content == first.content
    assert first.json()["identifier"] == body["identifier"]


def test_key_of_a_refusal_is_free_for_a_different_request_after_31_days(world: World) -> None:
    redemption = redeemed(world, 10)
    assert world.reverse(redemption, 11, key="key-1").json()["errors"][0]["code"] == 817
    Attempt.objects.filter(org=world.org).update(created_at=days_ago(32))
    assert world.reverse(redemption, 10, key="key-1").status_code == 200
