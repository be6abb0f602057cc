"""Names with blanks, invisible characters and other spellings, over HTTP: what is found, stored and echoed."""

from urllib.parse import quote

import pytest

from loyalty.models import Redemption
from tests.builders import World, make_customer, make_lot, make_world, redeem, redeemed, request_for

pytestmark = pytest.mark.django_db


def world_of(identifiers: dict[str, str], **options: str) -> World:
    """A world whose customer has these identifiers."""
    world = make_world(**options)
    world.asha = make_customer(world.org, identifiers=identifiers)
    return world


PADDED = [" {}", "{} ", "\u202a{}\u202c", "\u3000{}\u00a0", "\ufeff{}"]


@pytest.mark.parametrize("padded", PADDED)
def test_padded_redemption_id_and_identifier_are_found_and_echoed_as_sent(world: World, padded: str) -> None:
    redemption = redeemed(world, 10)
    value = padded.format(world.asha.public_id)
    body = request_for(redemption, 1) | {
        "redemptionId": padded.format(redemption.public_id),
        "identifier": {"type": "ID", "value": value},
    }
    reply = world.ask(body).json()
    assert (reply["redemptionId"], reply["identifier"]) == (redemption.public_id, {"type": "ID", "value": value})


@pytest.mark.parametrize("blank", ["", " ", "\u3000\u00a0", "\u200b", "\u2800"])
def test_blank_names_are_887(world: World, blank: str) -> None:
    redemption = redeemed(world, 10)
    good = request_for(redemption, 1)
    for body in (
        good | {"redemptionId": blank},
        good | {"programId": blank},
        good | {"identifier": good["identifier"] | {"value": blank}},
    ):
        assert world.ask(body).json()["errors"][0]["code"] == 887
    reference = world.redeem(world.asha, 1, externalReferenceNumber=blank)
    assert reference.json()["errors"][0]["code"] == 887


def test_unpadded_repeat_of_a_padded_reference_is_the_first_redemption(world: World) -> None:
    make_lot(world.asha, 10, program=world.program)
    first = world.redeem(world.asha, 2, externalReferenceNumber="ORD-77 ", transactionNumber="T-1\u200b").json()
    again = world.redeem(world.asha, 2, externalReferenceNumber="ORD-77", transactionNumber="T-1").json()
    assert again["redemptionId"] == first["redemptionId"]
    assert (first["externalReferenceNumber"], first["transactionNumber"]) == ("ORD-77 ", "T-1\u200b")
    stored = Redemption.objects.get(org=world.org)
    assert (stored.external_reference_number, stored.transaction_number) == ("ORD-77", "T-1")


def test_row_that_is_older_than_the_canonical_form_is_found_as_it_was_stored(world: World) -> None:
    redemption = redeemed(world, 10)
    names = {"public_id": "RPAD  ", "external_reference_number": "ORD-1 "}
    Redemption.objects.filter(id=redemption.id).update(**names)
    redemption.refresh_from_db()
    assert world.ask(request_for(redemption, 1)).status_code == 200
    by_reference = request_for(redemption, 2) | {"externalReferenceNumber": "ORD-1 "}
    del by_reference["redemptionId"]
    assert world.ask(by_reference).status_code == 200
    assert world.read(f"/v2/points/redemptions/{quote('RPAD  ')}").status_code == 200
    make_lot(world.asha, 10, program=world.program)
    repeat = world.redeem(world.asha, 10, externalReferenceNumber="ORD-1 ")
    assert repeat.status_code == 422


def test_padded_ids_in_addresses_are_found(world: World) -> None:
    redemption = redeem(world.asha, 1, program=world.program)
    assert world.read(f"/v2/points/redemptions/{quote(redemption.public_id + ' ')}").status_code == 200
    customer = quote(f"{world.asha.public_id}\u200b")
    assert world.read(f"/v2/customers/{customer}/points").json()["customerId"] == world.asha.public_id
    assert world.read("/v2/points/reversals", customerId=f" {world.asha.public_id}").status_code == 200


@pytest.mark.parametrize(
    "spelling", ["+91 98765 43210", "tel:098765-43210", "98765\u00a043210", "\u202a98765\u201343210", "98765/43210"]
)
def test_pasted_mobile_number_is_read(spelling: str) -> None:
    world = world_of({"MOBILE": "919876543210"}, country="IN")
    body = request_for(redeemed(world, 5), 1) | {"identifier": {"type": "MOBILE", "value": spelling}}
    assert world.ask(body).status_code == 200


def test_mobile_with_decimals_is_not_the_number_of_somebody_else() -> None:
    world = world_of({"MOBILE": "4917012345670"}, country="DE")
    body = request_for(redeemed(world, 5), 1) | {"identifier": {"type": "MOBILE", "value": "1701234567.0"}}
    assert world.ask(body).json()["errors"][0]["code"] == 804


@pytest.mark.parametrize("spelling", ["Mu\u0308ller@B\u00dcCHER.example ", "m\u00fcller@xn--bcher-kva.example"])
def test_decomposed_email_and_its_unicode_domain_are_found(spelling: str) -> None:
    world = world_of({"EMAIL": "m\u00fcller@b\u00fccher.example"})
    body = request_for(redeemed(world, 5), 1) | {"identifier": {"type": "EMAIL", "value": spelling}}
    assert world.ask(body).status_code == 200
