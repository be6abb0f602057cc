"""Every known client of the published API: the requests it sends, and the fields of the reply it needs."""

import hashlib
import json
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from loyalty.clients.api_clients import create_api_client
from loyalty.models import Customer, Lot, Redemption
from reversals.models import Reversal
from tests.builders import (
    ADDRESS,
    World,
    basic,
    make_customer,
    make_lot,
    make_program,
    make_world,
    redeem,
    redeemed,
    request_for,
    set_value,
)

pytestmark = pytest.mark.django_db

# Headers that clients send with every call, and that must have no effect.
ODD_HEADERS = {
    "X-CAP-CLIENT-SIGNATURE": "true",
    "x-winx-loyalty-client": "POS",
    "X-API-REQUEST": "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
    "x-cap-request-id": "mine",
    "Cookie": "sessionid=1; csrftoken=2",
}


@pytest.fixture(params=["documented", "engine"])
def dialect(request: pytest.FixtureRequest, world: World) -> str:
    """Sets the error dialect of the world's org."""
    set_value(world.org, "Reversal_error_dialect", request.param)
    dialect: str = request.param
    return dialect


def customer_with(world: World, **identifiers: str) -> Customer:
    return make_customer(world.org, identifiers=identifiers)


def redemption_of(customer: Customer, world: World, amount: object, **options: Any) -> Redemption:
    make_lot(customer, amount, program=world.program)
    return redeem(customer, amount, program=world.program, **options)


def md5(secret: str) -> str:
    return hashlib.md5(secret.encode(), usedforsecurity=False).hexdigest()


def remaining(customer: Customer) -> float:
    return float(sum(lot.points_remaining for lot in Lot.objects.filter(customer=customer)))


def first_error(response: HttpResponse) -> dict[str, Any]:
    """Returns the first error, and checks its types and that the body has no orgId."""
    body = json.loads(response.content)
    assert set(body) == {"errors", "warnings"}
    error: dict[str, Any] = body["errors"][0]
    assert type(error["code"]) is int
    assert type(error["message"]) is str
    assert error["status"] is False
    return error


# The JavaScript workflow of an airline


def send_as_airline(world: World, redemption: Redemption, amount: float) -> HttpResponse:
    body = {
        "redemptionId": redemption.public_id,
        "pointsToBeReversed": amount,
        "identifier": {"type": "externalId", "value": "FF-0001"},
    }
    headers = ODD_HEADERS | {"Accept": "application/json, text/plain, */*"}
    return world.ask(body, password=md5(world.secret), headers=headers)


def test_javascript_airline_reads_five_fields_of_a_success(world: World, dialect: str) -> None:
    asha = customer_with(world, EXTERNAL_ID="FF-0001")
    redemption = redemption_of(asha, world, 250.5)
    response = send_as_airline(world, redemption, 250.5)
    reply = json.loads(response.content)
    assert 200 <= response.status_code < 300
    assert reply["orgId"]
    assert {
        name: reply[name]
        for name in ("pointsReversed", "pointsReversedDetails", "pointsToBeReversed", "redemptionId", "reversalId")
    } == {
        "pointsReversed": 250.5,
        "pointsReversedDetails": {"available": 250.5, "expired": 0.0},
        "pointsToBeReversed": 250.5,
        "redemptionId": redemption.public_id,
        "reversalId": Reversal.objects.get(org=world.org).public_id,
    }
    # If it looks for errors first, an empty list counts as no error.
    assert not reply["errors"]


def test_javascript_airline_gets_3802_for_a_repeat_and_points_are_reversed_once(world: World, dialect: str) -> None:
    asha = customer_with(world, EXTERNAL_ID="FF-0001")
    redemption = redemption_of(asha, world, 250.5)
    assert send_as_airline(world, redemption, 250.5).status_code == 200
    for _ in range(3):
        again = send_as_airline(world, redemption, 250.5)
        expected = (200, 3802) if dialect == "engine" else (400, 902)
        assert (again.status_code, first_error(again)["code"]) == expected
    assert remaining(asha) == 250.5
    assert Reversal.objects.filter(org=world.org).count() == 1


def test_javascript_airline_gets_another_code_than_3802_for_other_errors(world: World, dialect: str) -> None:
    asha = customer_with(world, EXTERNAL_ID="FF-0001")
    response = send_as_airline(world, redemption_of(asha, world, 10), 10.5)
    assert first_error(response)["code"] == (3801 if dialect == "engine" else 817)
    assert first_error(response)["code"] != 3802


# The .NET till


def send_as_till(world: World, redemption: Redemption, amount: int, **options: Any) -> HttpResponse:
    body = {
        "redemptionId": redemption.public_id,
        "pointsToBeReversed": amount,
        "identifier": {"type": "mobile", "value": "84912345678"},
    }
    headers = {"X-CAP-API-ATTRIBUTION-LOOKUP-TYPE": "MOBILE_TRIGGER", "X-API-REQUEST": "6f9619ff"}
    content_type = "application/json; charset=utf-8"
    return world.ask(body, headers=headers, content_type=content_type, **options)


def test_dotnet_till_reads_a_positive_org_id_and_its_decimals(world: World, dialect: str) -> None:
    _, secret = create_api_client(org=world.org, username="saigon.0042")
    redemption = redemption_of(customer_with(world, MOBILE="84912345678"), world, 120)
    response = send_as_till(world, redemption, 120, user="saigon.0042", password=md5(secret))
    reply = json.loads(response.content)
    assert 0 < reply["orgId"] < 2**63
    assert 0 < reply["customerId"] < 2**63
    assert reply["reversalId"]
    # It reads decimals from the text, which must have a decimal point and no exponent.
    assert b'"pointsToBeReversed":120.0,"pointsReversed":120.0' in response.content
    assert all(name[0].islower() and "_" not in name for name in reply)


def test_dotnet_till_reads_large_amounts_without_an_exponent(world: World) -> None:
    redemption = redemption_of(customer_with(world, MOBILE="84912345678"), world, 99_999_999_999)
    assert b'"pointsReversed":99999999999.0,' in send_as_till(world, redemption, 99_999_999_999).content


def test_dotnet_till_reads_the_first_error_of_every_failure(world: World, dialect: str) -> None:
    redemption = redemption_of(customer_with(world, MOBILE="84912345678"), world, 120)
    failures = [
        send_as_till(world, redemption, 121),
        send_as_till(world, redemption, 0),
        world.ask(b""),
        world.ask({}, address="/v2/points/rewind"),
        Client().get(ADDRESS),
    ]
    assert all(first_error(failure)["message"] for failure in failures)
    assert all(json.loads(failure.content).get("orgId", 0) == 0 for failure in failures)


def test_dotnet_till_reads_unauthorized_in_a_401(world: World) -> None:
    redemption = redeemed(world)
    response = send_as_till(world, redemption, 1, password=md5("another"))
    assert response.status_code == 401
    assert "Unauthorized" in response.content.decode()
    assert first_error(response)["code"] == 401


# The Kotlin order service


def test_kotlin_order_service_sends_points_as_a_string_and_reads_every_field(world: World, dialect: str) -> None:
    redemption = redemption_of(customer_with(world, EXTERNAL_ID="K-1"), world, 250)
    body = (
        '{"identifier":{"type":"externalId","value":"K-1"},"pointsToBeReversed":"250.0",'
        f'"redemptionId":"{redemption.public_id}"}}'
    )
    reply = world.ask(body.encode()).json()
    assert 0 < reply["orgId"] < 2**31
    assert 0 < reply["customerId"] < 2**31
    assert reply["identifier"] == {"type": "externalId", "value": "K-1"}
    # Its Int fields take 250.0 because it is whole.
    assert (reply["pointsReversed"], reply["pointsToBeReversed"]) == (250, 250)
    assert reply["redemptionId"] == redemption.public_id
    assert type(reply["reversalId"]) is str
    assert reply["warnings"] == []


def test_points_as_a_string_are_checked_like_a_number(world: World) -> None:
    redemption = redemption_of(customer_with(world, EXTERNAL_ID="K-1"), world, 250)
    body = request_for(redemption, "250.0001", identifier={"type": "externalId", "value": "K-1"})
    assert first_error(world.ask(body))["code"] == 878


# The Kotlin gateway


def send_as_gateway(world: World, redemption: Redemption, points: str, **options: Any) -> HttpResponse:
    return world.reverse(redemption, points, headers={"X-CAP-REQUEST-ID": "mine"}, **options)


def test_kotlin_gateway_reads_doubles_of_a_success(world: World) -> None:
    response = send_as_gateway(world, redeemed(world, 20), "20")
    reply = json.loads(response.content)
    assert response.status_code == 200
    assert (type(reply["pointsReversed"]), reply["pointsReversed"]) == (float, 20.0)
    assert all(reply[name] is not None for name in ("orgId", "customerId", "redemptionId", "reversalId", "warnings"))


def test_documented_dialect_has_no_refusal_with_200_for_the_kotlin_gateway(world: World) -> None:
    """The gateway takes every 200 as a success, so an org with such a client must use the documented dialect."""
    redemption = redeemed(world, 20)
    refusals = [send_as_gateway(world, redemption, points) for points in ("21", "0", "0.0001", "x", "")]
    assert [response.status_code for response in refusals] == 5 * [400]
    assert [first_error(response)["code"] for response in refusals] == [817, 887, 878, 887, 887]


def test_kotlin_gateway_gets_401_and_503_for_platform_failures(world: World) -> None:
    redemption = redeemed(world, 20)
    assert send_as_gateway(world, redemption, "1", password="another").status_code == 401
    set_value(world.org, "Reversal_paused", "yes")
    assert send_as_gateway(world, redemption, "1").status_code == 503


# Every known request body

BODIES = {
    "the newest documentation": (10, {"redemptionId": "?", "pointsToBeReversed": 2, "identifier": {"type": "ID"}}, 2.0),
    "the extended documentation": (
        10,
        {"externalReferenceNumber": "ORD-2024-98765", "pointsToBeReversed": 2, "identifier": {"type": "ID"}},
        2.0,
    ),
    "the documentation of 2021": (
        10,
        {"redemptionId": "?", "pointsToBeReversed": 10, "identifier": {"type": "mobile", "value": "919740000000"}},
        10.0,
    ),
    "the JavaScript airline": (
        250.5,
        {"redemptionId": "?", "pointsToBeReversed": 250.5, "identifier": {"type": "externalId", "value": "FF-0001"}},
        250.5,
    ),
    "the .NET till": (
        120,
        {"redemptionId": "?", "pointsToBeReversed": 120, "identifier": {"type": "mobile", "value": "84912345678"}},
        120.0,
    ),
    "the Kotlin order service": (
        250,
        {"identifier": {"type": "externalId", "value": "FF-0001"}, "pointsToBeReversed": "250.0", "redemptionId": "?"},
        250.0,
    ),
    "a full reversal": (
        12.345,
        {"redemptionId": "?", "identifier": {"type": "EMAIL", "value": "a@b.c"}},
        12.345,
    ),
}


@pytest.mark.parametrize("sender", BODIES)
def test_body_of_each_known_client_is_accepted(world: World, dialect: str, sender: str) -> None:
    redeemed_points, sent, reversed_points = BODIES[sender]
    kind = {"mobile": "MOBILE", "externalId": "EXTERNAL_ID", "EMAIL": "EMAIL"}.get(sent["identifier"]["type"])
    asha = customer_with(world, **({kind: sent["identifier"]["value"]} if kind else {}))
    redemption = redemption_of(asha, world, redeemed_points, external_reference_number="ORD-2024-98765")
    identifier = {"value": str(asha.public_id)} | sent["identifier"]
    body = {name: redemption.public_id if value == "?" else value for name, value in sent.items()}
    response = world.ask(body | {"identifier": identifier})
    reply = json.loads(response.content)
    assert response.status_code == 200
    assert reply == {
        "orgId": world.org.id,
        "identifier": identifier,
        "customerId": asha.public_id,
        "redemptionId": redemption.public_id,
        "reversalId": Reversal.objects.get(org=world.org).public_id,
        "pointsToBeReversed": reversed_points,
        "pointsReversed": reversed_points,
        "pointsReversedDetails": {"available": reversed_points, "expired": 0.0},
        "warnings": [],
        "errors": [],
    }


def test_credentials_with_md5_equal_the_vendors_documented_example(world: World) -> None:
    """The vendor documents this header for the user store.server with the password server123."""
    example = "Basic c3RvcmUuc2VydmVyOjhhMTZhNmI3MDUwNWViMWYxZmY3Y2RjMGNkNTU1OWE3"
    assert basic("store.server", md5("server123")) == example


# The program and the reference number


@pytest.mark.parametrize("as_sent", [str, int])
def test_program_id_of_the_redemption_is_accepted(world: World, dialect: str, as_sent: type) -> None:
    body = request_for(redeemed(world), 2, programId=as_sent(world.program.public_id))
    assert world.ask(body).json()["pointsReversed"] == 2.0


def test_program_id_of_another_program_is_885(world: World, dialect: str) -> None:
    other = make_program(world.org)
    response = world.ask(request_for(redeemed(world), 2, programId=str(other.public_id)))
    assert (response.status_code, first_error(response)["code"]) == (200 if dialect == "engine" else 400, 885)
    assert first_error(response)["message"] == "Invalid program ID"
    assert Reversal.objects.filter(org=world.org).count() == 0


def by_reference(redemption: Redemption, reference: object, **changes: Any) -> dict[str, Any]:
    return request_for(redemption, 2, redemptionId=None, externalReferenceNumber=reference) | changes


def test_reference_number_of_128_characters_finds_its_redemption(world: World, dialect: str) -> None:
    redemption = redeemed(world, external_reference_number="ORD-" + 124 * "9")
    reply = world.ask(by_reference(redemption, "ORD-" + 124 * "9")).json()
    assert (reply["redemptionId"], reply["pointsReversed"]) == (redemption.public_id, 2.0)
    assert "externalReferenceNumber" not in reply


def test_reference_number_may_be_sent_as_a_json_number(world: World) -> None:
    redemption = redeemed(world, external_reference_number="20240001")
    assert world.ask(by_reference(redemption, 20240001)).json()["redemptionId"] == redemption.public_id


@pytest.mark.parametrize("reference", ["ORD-2", "ord-1", "R1"])
def test_unknown_reference_number_is_not_found(world: World, dialect: str, reference: str) -> None:
    redemption = redeemed(world, external_reference_number="ORD-1")
    response = world.ask(by_reference(redemption, reference))
    assert first_error(response)["code"] == (3803 if dialect == "engine" else 804)


def test_a_reference_number_of_another_customer_or_org_is_not_found(world: World, dialect: str) -> None:
    code = 3803 if dialect == "engine" else 804
    redemption = redeemed(world, external_reference_number="ORD-1")
    ravi = {"type": "ID", "value": str(make_customer(world.org).public_id)}
    assert first_error(world.ask(by_reference(redemption, "ORD-1", identifier=ravi)))["code"] == code
    stranger = make_world(settings={"Reversal_error_dialect": dialect})
    assert first_error(stranger.ask(by_reference(redemption, "ORD-1")))["code"] == code


@pytest.mark.parametrize("ids", [{"redemptionId": "R1", "externalReferenceNumber": "ORD-1"}, {}])
def test_both_or_neither_of_id_and_reference_number_is_887_in_every_dialect(
    world: World, dialect: str, ids: dict[str, str]
) -> None:
    response = world.ask({"identifier": {"type": "ID", "value": str(world.asha.public_id)}} | ids)
    assert (response.status_code, first_error(response)["code"]) == (400, 887)


# The engine's dialect, with the messages of the vendor's own engine tests

ENGINE_MESSAGES = {
    3801: "points to be reversed should not be greater than total points redeemed against the redemption summary id",
    3802: "all redeemed points already reversed",
    3803: "prs record not found for the unique redemption id",
    3804: "redemption reversal of a reversal not allowed",
    4101: "points redemption reversal is disabled for this org",
    4102: "points redemption reversal not allowed for invalid points",
}


def test_engine_dialect_has_the_engines_codes_and_messages() -> None:
    world = make_world(settings={"Reversal_error_dialect": "engine"})
    redemption = redeemed(world, 10)
    partly = world.reverse(redemption, 6).json()
    answers = [
        world.reverse(redemption, 4.001),
        world.reverse(redemption, -1),
        world.reverse(redemption, 0),
        world.ask(request_for(redemption, redemptionId="x")),
        world.ask(request_for(redemption, redemptionId=partly["reversalId"])),
    ]
    world.reverse(redemption)
    answers += [world.reverse(redemption), world.reverse(redemption, 10)]
    set_value(world.org, "Allow_points_redemption_reversal", "no")
    answers += [world.ask(request_for(redemption, redemptionId="unknown"))]
    got = [(first_error(answer)["code"], first_error(answer)["message"]) for answer in answers]
    codes = [3801, 4102, 4102, 3803, 3804, 3802, 3802, 4101]
    assert got == [(code, ENGINE_MESSAGES[code]) for code in codes]
    assert {answer.status_code for answer in answers} == {200}
    assert remaining(world.asha) == 10
