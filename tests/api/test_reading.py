"""The reads of a redemption, a reversal and a customer's points, and who may not read them."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext

from loyalty.models import CustomerGroup, GroupMember, Lot, Org, Redemption
from reversals.models import Reversal
from tests.builders import (
    World,
    basic,
    make_customer,
    make_lot,
    make_world,
    operator_of,
    redeem,
    redeemed,
    set_value,
    utc,
)

pytestmark = pytest.mark.django_db

NOON = utc("2026-04-10T12:00:00")
MAY, JUNE = utc("2026-05-01"), utc("2026-06-01")


def at(**later: float) -> time_machine.travel:
    return time_machine.travel(NOON + timedelta(**later), tick=False)


def redemption_address(redemption: Redemption) -> str:
    return f"/v2/points/redemptions/{redemption.public_id}"


def addresses_of(world: World) -> list[str]:
    """Returns the addresses of all reads, with the ids of Asha's only redemption and its last reversal."""
    reversal = Reversal.objects.filter(org=world.org).latest("id")
    return [
        redemption_address(reversal.redemption),
        f"/v2/points/reversals/{reversal.public_id}",
        f"/v2/customers/{world.asha.public_id}/points",
        "/v2/points/reversals",
    ]


def of_lot(lot: Lot, expires_at: str | None) -> dict[str, object]:
    return {
        "lotRef": lot.lot_ref,
        "programId": lot.program.public_id,
        "memberId": lot.customer.public_id,
        "expiresAt": expires_at,
    }


def refusal(response: HttpResponse) -> tuple[int, int]:
    return response.status_code, response.json()["errors"][0]["code"]


# A redemption


def test_redemption_has_its_draws_and_reversals(world: World) -> None:
    soon = make_lot(world.asha, 50, program=world.program, awarded_at=utc("2026-01-01"), expires_at=MAY)
    never = make_lot(world.asha, 400, program=world.program, awarded_at=utc("2026-01-01"))
    with at():
        made = world.redeem(world.asha, 350, transactionNumber="T-1", externalReferenceNumber="ORD-1").json()
    redemption = Redemption.objects.get(org=world.org)
    with at(hours=1):
        first = world.reverse(redemption, "310.5").json()["reversalId"]
    with at(days=30):
        last = world.reverse(redemption, 39.25).json()["reversalId"]
    response = world.read(redemption_address(redemption))
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"
    assert response["X-CAP-REQUEST-ID"]
    assert response.json() == {
        "orgId": world.org.id,
        "customerId": world.asha.public_id,
        "redemptionId": made["redemptionId"],
        "programId": world.program.public_id,
        "points": 350.0,
        "pointsReversed": 349.75,
        "pointsLeft": 0.25,
        "redeemedAt": "2026-04-10T12:00:00Z",
        "transactionNumber": "T-1",
        "externalReferenceNumber": "ORD-1",
        "draws": [
            {"position": 1, **of_lot(soon, "2026-05-01T00:00:00Z"), "points": 50.0, "pointsReversed": 49.75},
            {"position": 2, **of_lot(never, None), "points": 300.0, "pointsReversed": 300.0},
        ],
        "reversals": [
            {
                "reversalId": first,
                "pointsReversed": 310.5,
                "pointsReversedDetails": {"available": 310.5, "expired": 0.0},
                "reversedAt": "2026-04-10T13:00:00Z",
                "channel": "API",
                "madeBy": "till.1",
                "correction": None,
            },
            {
                "reversalId": last,
                "pointsReversed": 39.25,
                "pointsReversedDetails": {"available": 0.0, "expired": 39.25},
                "reversedAt": "2026-05-10T12:00:00Z",
                "channel": "API",
                "madeBy": "till.1",
                "correction": None,
            },
        ],
        "warnings": [],
        "errors": [],
    }


def test_redemption_without_lots_has_null_lot_fields(world: World) -> None:
    redemption = redeem(world.asha, 350, program=world.program, at=NOON)
    assert world.read(redemption_address(redemption)).content.decode() == (
        f'{{"orgId":{world.org.id},"customerId":{world.asha.public_id},"redemptionId":"{redemption.public_id}",'
        f'"programId":{world.program.public_id},"points":350.0,"pointsReversed":0.0,"pointsLeft":350.0,'
        '"redeemedAt":"2026-04-10T12:00:00Z","transactionNumber":null,"externalReferenceNumber":null,'
        '"draws":[{"position":1,"lotRef":null,"programId":null,"memberId":null,"expiresAt":null,'
        '"points":350.0,"pointsReversed":0.0}],"reversals":[],"warnings":[],"errors":[]}'
    )


def test_redemption_is_found_by_an_id_with_special_characters(world: World) -> None:
    for number, public_id in enumerate(("till/7/12", "ü 1%", "a?b#c", "x" * 64, "line\nbreak")):
        redeemed(world, 1 + number, public_id=public_id)
        address = "/v2/points/redemptions/" + "".join(f"%{byte:02X}" for byte in public_id.encode())
        assert world.read(address).json()["redemptionId"] == public_id


# A reversal


def test_reversal_has_its_lines_in_the_order_of_reversal(world: World) -> None:
    set_value(world.org, "Reversal_reissue_days", "30")
    soon = make_lot(world.asha, 6.5, program=world.program, awarded_at=utc("2026-01-01"), expires_at=MAY)
    late = make_lot(world.asha, 20, program=world.program, awarded_at=utc("2026-01-01"), expires_at=JUNE)
    redemption = redeem(world.asha, 30, program=world.program, at=NOON)
    with at(days=30):
        call_command(
            "reverse_points",
            world.org.id,
            redemption.public_id,
            "--reason",
            "till broke",
            "--by",
            operator_of(world).username,
        )
    reversal = Reversal.objects.get(org=world.org)
    reissued = Lot.objects.get(org=world.org, lot_ref__startswith="REISSUE")
    assert world.read(f"/v2/points/reversals/{reversal.public_id}").json() == {
        "orgId": world.org.id,
        "customerId": world.asha.public_id,
        "redemptionId": redemption.public_id,
        "reversalId": reversal.public_id,
        "pointsToBeReversed": 30.0,
        "pointsReversed": 30.0,
        "pointsReversedDetails": {"available": 30.0, "expired": 0.0},
        "reversedAt": "2026-05-10T12:00:00Z",
        "channel": "COMMAND",
        "madeBy": "ravi",
        "correction": None,
        "reason": "till broke",
        "lines": [
            {
                "position": 3,
                **of_lot(late, "2026-06-01T00:00:00Z"),
                "points": 20.0,
                "available": 20.0,
                "expired": 0.0,
                "reissuedLotRef": None,
            },
            {
                "position": 2,
                **of_lot(soon, "2026-05-01T00:00:00Z"),
                "points": 6.5,
                "available": 6.5,
                "expired": 0.0,
                "reissuedLotRef": reissued.lot_ref,
            },
            {
                "position": 1,
                **dict.fromkeys(("lotRef", "programId", "memberId", "expiresAt")),
                "points": 3.5,
                "available": 3.5,
                "expired": 0.0,
                "reissuedLotRef": reissued.lot_ref,
            },
        ],
        "warnings": [],
        "errors": [],
    }


def test_partial_reversal_has_the_points_requested_and_expired(world: World) -> None:
    make_lot(world.asha, 5, program=world.program, awarded_at=utc("2026-01-01"), expires_at=MAY)
    redemption = redeem(world.asha, 5, program=world.program, at=NOON)
    with at(days=30):
        reply = world.reverse(redemption, "1.5").json()
    body = world.read(f"/v2/points/reversals/{reply['reversalId']}").json()
    assert (body["pointsToBeReversed"], body["reason"]) == (1.5, None)
    assert body["pointsReversedDetails"] == reply["pointsReversedDetails"] == {"available": 0.0, "expired": 1.5}
    assert [(line["available"], line["expired"]) for line in body["lines"]] == [(0.0, 1.5)]


# A customer's points


def test_points_are_listed_by_expiry_with_unlimited_ones_last(world: World) -> None:
    for amount, expires_at in [(7, None), ("0.5", JUNE), (4, MAY), (2, JUNE), (3, NOON), (9, utc("2026-04-01"))]:
        make_lot(world.asha, amount, program=world.program, awarded_at=utc("2026-01-01"), expires_at=expires_at)
    with at():
        response = world.read(f"/v2/customers/{world.asha.public_id}/points")
    assert response.json() == {
        "orgId": world.org.id,
        "customerId": world.asha.public_id,
        "available": 13.5,
        "expired": 12.0,
        "byExpiry": [
            {"expiresAt": "2026-05-01T00:00:00Z", "points": 4.0},
            {"expiresAt": "2026-06-01T00:00:00Z", "points": 2.5},
            {"expiresAt": None, "points": 7.0},
        ],
        "asOf": "2026-04-10T12:00:00Z",
        "warnings": [],
        "errors": [],
    }


def test_points_of_other_members_of_a_group_are_not_included(world: World) -> None:
    ravi = make_customer(world.org)
    group = CustomerGroup.objects.create(org=world.org, public_id=1)
    for member in (world.asha, ravi):
        GroupMember.objects.create(org=world.org, group=group, customer=member, joined_at=NOON)
    set_value(world.org, "Enable_cross_member_redemption", "yes")
    make_lot(ravi, 7, program=world.program)
    body = world.read(f"/v2/customers/{world.asha.public_id}/points").json()
    assert (body["available"], body["expired"], body["byExpiry"]) == (0.0, 0.0, [])


# Callers who may not read


@pytest.fixture
def reversed_world(world: World) -> World:
    world.reverse(redeemed(world, 10), 2)
    return world


IMPOSSIBLE = [
    *("%00", "%00NUL", "x" * 5000, "a%2Fb", "a%2F", "%2F", "..%2F..", "%0A", "%FF", "%20", "%", "%F0%9F%92%A5", "0"),
    *("-1", "+1", "1.0", "1e3", "0x1", "9" * 30, str(2**63), "%D9%A3", "%EF%BC%91", "' OR 1=1 --", "null", "../x"),
]


@pytest.mark.parametrize("address", ["points/redemptions/{}", "points/reversals/{}", "customers/{}/points"])
def test_unknown_foreign_and_impossible_ids_get_the_same_404(reversed_world: World, address: str) -> None:
    stranger = make_world()
    foreign = next(each for each in addresses_of(reversed_world) if each.startswith("/v2/" + address.split("{")[0]))
    responses = [stranger.read(f"/v2/{address.format(text)}") for text in ("unknown", *IMPOSSIBLE)]
    responses.append(stranger.read(foreign))
    assert {refusal(response) for response in responses} == {(404, 404)}
    assert len({response.content for response in responses}) == 1
    headers = [{name: value for name, value in each.items() if name != "X-CAP-REQUEST-ID"} for each in responses]
    assert all(each == headers[0] for each in headers)


def test_an_id_of_another_kind_is_not_found(reversed_world: World) -> None:
    redemption, reversal, points, _ = addresses_of(reversed_world)
    customer_id = points.split("/")[3]
    ids = redemption.rpartition("/")[2], reversal.rpartition("/")[2]
    for address in (
        f"/v2/points/redemptions/{ids[1]}",
        f"/v2/points/reversals/{ids[0]}",
        f"/v2/points/reversals/{customer_id}",
        f"/v2/customers/{ids[0]}/points",
        f"/v2/customers/0{customer_id}/points",
    ):
        assert refusal(reversed_world.read(address)) == (404, 404)


def test_another_org_may_have_the_same_ids(reversed_world: World) -> None:
    stranger = make_world()
    customer = make_customer(stranger.org, status="FRAUD")
    type(customer).objects.filter(id=customer.id).update(public_id=reversed_world.asha.public_id)
    for redemption in Redemption.objects.filter(org=reversed_world.org):
        redeem(customer, 3, program=stranger.program, public_id=redemption.public_id)
    redemption, _, points, _ = addresses_of(reversed_world)
    body = stranger.read(redemption).json()
    assert (body["orgId"], body["points"], body["reversals"]) == (stranger.org.id, 3.0, [])
    assert stranger.read(points).json()["available"] == 0.0


def test_reads_with_wrong_credentials_are_401(reversed_world: World) -> None:
    stranger = make_world()
    wrong = [Client(), Client(headers={"Authorization": basic("till.1", stranger.secret[::-1])})]
    for address in addresses_of(reversed_world):
        for client in wrong:
            response = client.get(address)
            assert refusal(response) == (401, 401)
            assert response["WWW-Authenticate"]


def test_reads_of_an_org_without_the_v2_api_are_403(reversed_world: World) -> None:
    Org.objects.filter(id=reversed_world.org.id).update(v2_enabled=False)
    for address in (*addresses_of(reversed_world), "/v2/points/redemptions/unknown", "/v2/points/reversals?limit=0"):
        response = reversed_world.read(address)
        assert refusal(response) == (403, 403)
        assert response.json()["errors"][0]["message"] == "V2 is not enabled for the org"


# Methods and addresses


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_other_methods_are_405_with_an_allow_header(reversed_world: World, method: str) -> None:
    for address in addresses_of(reversed_world):
        response = reversed_world.till().generic(method, address)
        assert refusal(response) == (405, 405)
        assert response["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_an_address_that_moves_points_allows_only_post(world: World, method: str) -> None:
    for address in ("/v2/points/reverse", f"/v2/customers/{world.asha.public_id}/redemptions"):
        response = world.till().generic(method, address)
        assert (response.status_code, response["Allow"]) == (405, "POST")


def test_head_is_a_get_without_the_body(reversed_world: World) -> None:
    for address in addresses_of(reversed_world):
        get, head = reversed_world.read(address), reversed_world.till().head(address)
        assert (head.status_code, head.content) == (200, b"")
        assert head["Content-Length"] == str(len(get.content))
    assert reversed_world.till().head("/v2/points/reversals/unknown").status_code == 404


def test_a_trailing_slash_and_odd_headers_make_no_difference(reversed_world: World) -> None:
    headers = {"Accept": "text/xml", "X-CAP-REQUEST-ID": "mine", "Content-Type": "text/plain", "If-None-Match": "*"}
    with at():
        for address in addresses_of(reversed_world):
            response = reversed_world.till().get(address + "/", headers=headers)
            assert response.content == reversed_world.read(address).content
            assert response["X-CAP-REQUEST-ID"] != "mine"


# Queries and writes


def test_reads_write_nothing(reversed_world: World) -> None:
    before = reversed_world.written(), len(reversed_world.attempts())
    with CaptureQueriesContext(connection) as captured:
        for address in (*addresses_of(reversed_world), "/v2/points/redemptions/unknown", "/v2/points/reversals?to=x"):
            reversed_world.read(address)
    assert {query["sql"].split()[0] for query in captured.captured_queries} == {"SELECT"}
    assert (reversed_world.written(), len(reversed_world.attempts())) == before


def statements(world: World, address: str, **parameters: Any) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert world.read(address, **parameters).status_code == 200
    return len(captured)


def test_number_of_queries_does_not_grow_with_rows(world: World) -> None:
    redemption = grow(world)
    customer = {"customerId": world.asha.public_id, "limit": 2}
    addresses = addresses_of(world)
    before = [*(statements(world, each) for each in addresses), statements(world, addresses[-1], **customer)]
    for number in range(5):
        grow(world)
        world.reverse(redemption, 1, key=f"key-{number}")
    assert [*(statements(world, each) for each in addresses), statements(world, addresses[-1], **customer)] == before
    assert before == [4, 3, 4, 2, 5]


def grow(world: World) -> Redemption:
    """Creates a redemption from three lots, with a reversal of two lines."""
    for _ in range(3):
        make_lot(world.asha, 10, program=world.program)
    redemption = redeem(world.asha, 30, program=world.program)
    assert world.reverse(redemption, 15).status_code == 200
    return redemption
