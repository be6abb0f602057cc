"""Accepted reversals over HTTP: the keys of the reply, and the forms of a request that clients send."""

import gzip
import hashlib
import json
from typing import Any

import pytest

from loyalty.clients.api_clients import add_secret
from loyalty.models import ApiClient, Customer, Lot
from reversals.models import Reversal
from tests.builders import (
    ADDRESS,
    World,
    days_ago,
    in_days,
    make_customer,
    make_lot,
    make_world,
    redeem,
    redeemed,
    request_for,
    set_value,
)

pytestmark = pytest.mark.django_db


def test_the_reply_has_exactly_the_published_keys(world: World) -> None:
    redemption = redeemed(world, 10)
    response = world.reverse(redemption, 2)
    reversal = redemption.reversals.get()
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert response["X-CAP-REQUEST-ID"]
    assert response.content.decode() == (
        f'{{"orgId":{world.org.id},"identifier":{{"type":"ID","value":"{world.asha.public_id}"}},'
        f'"customerId":{world.asha.public_id},"redemptionId":"{redemption.public_id}",'
        f'"reversalId":"{reversal.public_id}","pointsToBeReversed":2.0,"pointsReversed":2.0,'
        '"pointsReversedDetails":{"available":2.0,"expired":0.0},"warnings":[],"errors":[]}'
    )


def test_omitted_or_null_points_reverse_all_remaining_points(world: World) -> None:
    redemption = redeemed(world, "10.5")
    assert world.reverse(redemption, "0.25").json()["pointsReversed"] == 0.25
    reply = world.ask(request_for(redemption) | {"pointsToBeReversed": None}).json()
    assert (reply["pointsToBeReversed"], reply["pointsReversed"]) == (10.25, 10.25)
    assert Reversal.objects.get(org=world.org, points_asked=None).points == reply["pointsReversed"]


def test_points_reversed_to_expired_lot_count_as_expired_and_warn(world: World) -> None:
    make_lot(world.asha, 20, program=world.program, expires_at=days_ago(0.5))
    make_lot(world.asha, 330, program=world.program, expires_at=in_days(5))
    reply = world.reverse(redeem(world.asha, 350, program=world.program)).json()
    assert reply["pointsReversed"] == 350.0
    assert reply["pointsReversedDetails"] == {"available": 330.0, "expired": 20.0}
    assert reply["warnings"] == [
        {
            "status": True,
            "code": 1001,
            "message": "20 of the 350 points were reversed to lots that have expired and cannot be spent again.",
        }
    ]


def test_expired_points_are_reissued_in_a_new_lot_if_the_program_allows_it(world: World) -> None:
    set_value(world.org, "Reversal_reissue_days", "30", program=world.program)
    expired = make_lot(world.asha, 20, program=world.program, expires_at=days_ago(0.5))
    reply = world.reverse(redeem(world.asha, 25, program=world.program)).json()
    reissued = Lot.objects.get(org=world.org, lot_ref=f"REISSUE-{reply['reversalId']}")
    assert reply["pointsReversedDetails"] == {"available": 25.0, "expired": 0.0}
    assert reply["warnings"] == [
        {
            "status": True,
            "code": 1002,
            "message": "25 points that had expired, or came from no lot, were re-issued"
            f" and expire on {reissued.expires_at:%Y-%m-%dT%H:%M:%SZ}.",
        }
    ]
    assert (reissued.points_awarded, reissued.points_remaining, reissued.customer) == (25, 25, world.asha)
    expired.refresh_from_db()
    assert (expired.points_remaining, expired.points_reissued, reissued.is_reissue) == (0, 20, True)
    lines = Reversal.objects.get(org=world.org).lines.all()
    assert {line.reissued_lot_id for line in lines} == {reissued.id}


def test_three_reversals_of_a_tenth_reverse_exactly_three_tenths(world: World) -> None:
    redemption = redeemed(world, "0.3")
    for key in ("a", "b", "c"):
        assert world.reverse(redemption, 0.1, key=key).status_code == 200
    assert world.reverse(redemption, 0.001).json()["errors"][0]["code"] == 902


@pytest.mark.parametrize("points", ["250.0", 250, 250.0, "250", "0250.000"])
def test_points_may_be_numbers_or_strings(world: World, points: Any) -> None:
    assert world.reverse(redeemed(world, 250.5), points).json()["pointsReversed"] == 250.0


@pytest.mark.parametrize("literal", ["2.5e2", "250.000000", "25E1", "2500e-1"])
def test_number_literals_with_exponent_or_zeros_are_accepted(world: World, literal: str) -> None:
    redemption = redeemed(world, 250)
    body = json.dumps(request_for(redemption, "HERE")).replace('"HERE"', literal)
    assert world.ask(body.encode()).json()["pointsReversed"] == 250.0


@pytest.mark.parametrize(
    "points", [10**12, 1e300, "1000000000000", "-1", "+1", "1e2", " 1", "1.", ".5", "", "x", True, [], {}, "٣"]
)
def test_invalid_points_are_887(world: World, points: Any) -> None:
    response = world.ask(request_for(redeemed(world)) | {"pointsToBeReversed": points})
    assert (response.status_code, response.json()["errors"][0]["code"]) == (400, 887)


@pytest.mark.parametrize(
    "changes",
    [
        {"redemptionId": None},
        {"redemptionId": ""},
        {"redemptionId": "x" * 65},
        {"redemptionId": ["R1"]},
        {"redemptionId": True},
        {"externalReferenceNumber": "ORD-1"},
        {"redemptionId": None, "externalReferenceNumber": "x" * 129},
        {"identifier": None},
        {"identifier": "ID"},
        {"identifier": {"type": "ID"}},
        {"identifier": {"value": "1"}},
        {"identifier": {"type": "PASSPORT", "value": "1"}},
        {"identifier": {"type": "\u0131d", "value": "1"}},
        {"identifier": {"type": 1, "value": "1"}},
        {"identifier": {"type": "ID", "value": ""}},
        {"identifier": {"type": "ID", "value": ["1"]}},
        {"programId": {}},
    ],
)
def test_invalid_field_is_887_and_named(world: World, changes: dict[str, Any]) -> None:
    response = world.ask(request_for(redeemed(world)) | changes)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (400, 887)
    assert any(field in response.json()["errors"][0]["reason"] for field in ("redemptionId", *changes))


IDENTIFIERS = {
    "MOBILE": "919740000000",
    "EMAIL": "asha@example.com",
    "EXTERNAL_ID": "HH-00001",
    "CARD_NUMBER": "CARD00000001",
    "CARD_EXTERNAL_ID": "C-1",
}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("mobile", "919740000000"),
        ("MOBILE", "+91 97400 00000"),
        ("PHONE", "9740000000"),
        ("phone", 919740000000),
        ("email", "Asha@Example.COM"),
        ("externalId", "HH-00001"),
        ("EXTERNALID", "HH-00001"),
        ("external_id", "HH-00001"),
        ("cardnumber", "CARD00000001"),
        ("cardNumber", "CARD00000001"),
        ("card_number", "CARD00000001"),
        ("cardExternalId", "C-1"),
        ("CARD_EXTERNAL_ID", "C-1"),
    ],
)
def test_every_identifier_in_every_spelling_is_found_and_echoed(kind: str, value: Any) -> None:
    world = make_world()
    asha = make_customer(world.org, identifiers=IDENTIFIERS)
    make_lot(asha, 10, program=world.program)
    redemption = redeem(asha, 10, program=world.program)
    reply = world.ask(request_for(redemption, 2, identifier={"type": kind, "value": value})).json()
    assert reply["customerId"] == asha.public_id
    assert reply["identifier"] == {"type": kind, "value": value}


@pytest.mark.parametrize("value", ["ASHA", "0", "-1", "9" * 30, "1e3", "٣", "564000001.0", "' OR 1=1 --"])
def test_impossible_customer_id_is_804(world: World, value: str) -> None:
    response = world.ask(request_for(redeemed(world), identifier={"type": "ID", "value": value}))
    assert (response.status_code, response.json()["errors"][0]["code"]) == (400, 804)


def test_a_mobile_without_country_code_is_read_in_the_orgs_country() -> None:
    world = make_world(country="VN")
    asha = make_customer(world.org, identifiers={"MOBILE": "84912345678"})
    make_lot(asha, 10, program=world.program)
    redemption = redeem(asha, 10, program=world.program)
    for number, value in enumerate(("0912345678", "84912345678", "+84 912 345 678")):
        body = request_for(redemption, 1 + number, identifier={"type": "mobile", "value": value})
        assert world.ask(body).status_code == 200, value


def test_a_redemption_is_found_by_its_external_reference_number(world: World) -> None:
    redemption = redeemed(world, 10, external_reference_number="ORD-2024-98765")
    body = request_for(redemption, 2) | {"redemptionId": None, "externalReferenceNumber": "ORD-2024-98765"}
    reply = world.ask(body).json()
    assert reply["redemptionId"] == redemption.public_id


def test_a_redemption_id_may_be_a_number(world: World) -> None:
    redemption = redeemed(world, 10, public_id="123456")
    assert world.ask(request_for(redemption, 2, redemptionId=123456)).json()["redemptionId"] == "123456"


def test_a_trailing_slash_unknown_fields_and_odd_headers_make_no_difference(world: World) -> None:
    redemption = redeemed(world, 10)
    headers = {
        "X-CAP-API-ATTRIBUTION-LOOKUP-TYPE": "MOBILE_TRIGGER",
        "X-CAP-CLIENT-SIGNATURE": "true",
        "x-winx-loyalty-client": "POS",
        "X-CAP-REQUEST-ID": "mine",
        "Accept": "text/xml",
        "Cookie": "sessionid=1",
    }
    response = world.ask(
        request_for(redemption, 2, notes="x", source={"a": []}),
        headers=headers,
        address="/v2/points/reverse/",
        content_type="application/json; charset=utf-8",
    )
    assert response.status_code == 200
    assert response["X-CAP-REQUEST-ID"] != "mine"


def test_a_body_with_a_byte_order_mark_is_the_same_request(world: World) -> None:
    body = json.dumps(request_for(redeemed(world, 10), 2)).encode()
    response = world.ask(b"\xef\xbb\xbf" + body, key="bom")
    assert response.status_code == 200
    assert world.ask(body, key="bom").content == response.content


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "identity, gzip", "utf-8", "x" * 5_000])
def test_a_compressed_body_is_415_and_the_header_is_named(world: World, coding: str) -> None:
    body = gzip.compress(json.dumps(request_for(redeemed(world, 10), 2)).encode())
    for address in (ADDRESS, f"/v2/customers/{world.asha.public_id}/redemptions"):
        response = world.ask(body, headers={"Content-Encoding": coding}, address=address)
        [error] = response.json()["errors"]
        assert (response.status_code, error["code"]) == (415, 415)
        assert error["reason"].startswith(f"Content-Encoding is '{coding.lower()[:64]}'; send the body uncompressed")


@pytest.mark.parametrize("coding", ["", "identity", " Identity "])
def test_a_body_with_coding_identity_is_read(world: World, coding: str) -> None:
    request = request_for(redeemed(world, 10), 2)
    assert world.ask(request, headers={"Content-Encoding": coding}).status_code == 200


def test_the_password_is_the_secret_or_its_md5_as_lower_case_hex(world: World) -> None:
    redemption = redeemed(world, 10)
    md5 = hashlib.md5(world.secret.encode(), usedforsecurity=False).hexdigest()
    assert world.reverse(redemption, 1, password=md5).status_code == 200
    assert world.reverse(redemption, 2, password=md5.upper()).status_code == 401


def test_two_secrets_of_a_client_are_valid_at_the_same_time(world: World) -> None:
    redemption = redeemed(world, 10)
    second = add_secret(ApiClient.objects.get(org=world.org))
    assert world.reverse(redemption, 1).status_code == 200
    assert world.reverse(redemption, 2, password=second).status_code == 200


def test_new_pepper_invalidates_every_secret(world: World, settings: Any) -> None:
    redemption = redeemed(world, 10)
    assert world.reverse(redemption, 1).status_code == 200
    settings.API_PEPPER = "p" * 32
    assert world.reverse(redemption, 2).status_code == 401


def test_a_revoked_client_is_401(world: World) -> None:
    ApiClient.objects.filter(org=world.org).update(is_active=False)
    response = world.reverse(redeemed(world), 1)
    assert response.status_code == 401
    assert "Unauthorized" in response.content.decode()


def test_accepted_call_is_recorded_with_its_client_and_masked_identifier(world: World) -> None:
    response = world.reverse(redeemed(world, 10), 2)
    (attempt,) = world.attempts()
    reversal = Reversal.objects.get(org=world.org)
    assert (attempt.code, attempt.rule, attempt.http_status, attempt.reversal_id) == (None, "", 200, reversal.id)
    assert (attempt.channel, attempt.made_by, attempt.identifier_type) == ("API", "till.1", "ID")
    assert attempt.identifier_masked == "******" + str(world.asha.public_id)[-3:]
    assert attempt.request_id == response["X-CAP-REQUEST-ID"]
    assert attempt.client_id == reversal.client_id


def test_reversal_restores_only_lots_of_its_own_customer(world: World) -> None:
    ravi = make_customer(world.org)
    his = make_lot(ravi, 5, program=world.program)
    world.reverse(redeemed(world, 10))
    assert Lot.objects.get(id=his.id).points_remaining == 5
    assert Customer.objects.filter(org=world.org).count() == 2
