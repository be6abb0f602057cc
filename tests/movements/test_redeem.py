"""Tests `POST /v2/customers/{customerId}/redemptions`: draws, replies, repeats and refusals."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.db import OperationalError
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from loyalty.ledger import locks, sql
from loyalty.ledger.groups import set_group
from loyalty.models import Customer, Draw, Lot, Org, Program, Redemption
from reversals.assurance.verification import broken_laws
from reversals.models import Reversal
from reversals.movements import public_ids
from reversals.movements.redeem import rules
from reversals.refusals import RedemptionError
from tests.builders import (
    World,
    basic,
    correct,
    days_ago,
    in_days,
    make_customer,
    make_lot,
    make_program,
    make_small_lots,
    make_world,
    points,
    redeemed,
    set_value,
)

pytestmark = pytest.mark.django_db


def remaining(*lots: Lot) -> list[Decimal]:
    return [Lot.objects.get(id=lot.id).points_remaining for lot in lots]


def redemptions(world: World) -> int:
    return Redemption.objects.filter(org=world.org).count()


# Draws


def test_points_are_drawn_first_from_the_lot_that_expires_first(world: World) -> None:
    later = make_lot(world.asha, 10, program=world.program, expires_at=in_days(20))
    soon = make_lot(world.asha, 4, program=world.program, expires_at=in_days(2))
    response = world.redeem(world.asha, 6.5, transactionNumber="T-1")
    redemption = Redemption.objects.get(org=world.org)
    assert response.status_code == 200
    assert response.json() == {
        "orgId": world.org.id,
        "customerId": world.asha.public_id,
        "redemptionId": redemption.public_id,
        "programId": world.program.public_id,
        "pointsRedeemed": 6.5,
        "redeemedAt": f"{redemption.redeemed_at:%Y-%m-%dT%H:%M:%SZ}",
        "transactionNumber": "T-1",
        "externalReferenceNumber": None,
        "draws": [
            {
                "position": position,
                "lotRef": lot.lot_ref,
                "programId": world.program.public_id,
                "memberId": world.asha.public_id,
                "expiresAt": f"{lot.expires_at:%Y-%m-%dT%H:%M:%SZ}",
                "points": drawn,
            }
            for position, lot, drawn in ((1, soon, 4.0), (2, later, 2.5))
        ],
        "balance": 7.5,
        "warnings": [],
        "errors": [],
    }
    assert remaining(soon, later) == [0, points("7.5")]
    assert (len(redemption.public_id), redemption.public_id.isalnum()) == (6, True)
    assert broken_laws(world.org.id) == []


def test_lot_without_expiry_is_drawn_last_and_expired_lot_is_not_drawn(world: World) -> None:
    never = make_lot(world.asha, 5, program=world.program)
    expired = make_lot(world.asha, 5, program=world.program, expires_at=days_ago(1))
    soon = make_lot(world.asha, 5, program=world.program, expires_at=in_days(1))
    assert world.redeem(world.asha, 6).json()["balance"] == 4.0
    assert remaining(never, expired, soon) == [4, 5, 0]


def test_lot_awarded_in_the_future_is_neither_drawn_nor_counted(world: World) -> None:
    make_lot(world.asha, 5, program=world.program, awarded_at=in_days(1))
    assert world.redeem(world.asha, 1).json()["errors"][0]["code"] == 818
    make_lot(world.asha, 3, program=world.program)
    assert world.redeem(world.asha, 1).json()["balance"] == 2.0


def test_redeemed_points_can_be_reversed_to_the_same_lots(world: World) -> None:
    lots = [make_lot(world.asha, 5, program=world.program, expires_at=in_days(day)) for day in (1, 2, 3)]
    redemption_id = world.redeem(world.asha, 12).json()["redemptionId"]
    reversed_ = world.reverse(Redemption.objects.get(org=world.org, public_id=redemption_id), 7)
    assert reversed_.json()["pointsReversed"] == 7.0
    assert remaining(*lots) == [0, 5, 5]
    assert broken_laws(world.org.id) == []


def test_redemption_draws_on_lots_of_every_program(world: World) -> None:
    """As imported redemptions do, because all programs of an org share the order of expiry."""
    other = make_program(world.org)
    soon = make_lot(world.asha, 5, program=other, expires_at=in_days(1))
    later = make_lot(world.asha, 5, program=world.program, expires_at=in_days(2))
    body = world.redeem(world.asha, 7, programId=world.program.public_id).json()
    assert [draw["programId"] for draw in body["draws"]] == [other.public_id, world.program.public_id]
    assert remaining(soon, later) == [0, 3]


@pytest.mark.parametrize("as_sent", ["2.5", 2.5])
def test_points_can_be_a_number_or_a_string_of_digits(world: World, as_sent: object) -> None:
    make_lot(world.asha, 10, program=world.program)
    assert world.redeem(world.asha, as_sent).json()["pointsRedeemed"] == 2.5


def test_unsupported_fields_of_the_vendors_call_are_ignored(world: World) -> None:
    make_lot(world.asha, 10, program=world.program)
    more = {"redemptionType": "POINTS", "validationCode": "VC-1234", "source": "INSTORE", "groupRedemption": False}
    assert world.redeem(world.asha, 1, commit=True, **more).status_code == 200


def test_trailing_slash_is_the_same_address(world: World) -> None:
    make_lot(world.asha, 10, program=world.program)
    address = f"/v2/customers/{world.asha.public_id}/redemptions/"
    assert world.ask({"points": 1}, address=address).status_code == 200


def test_more_lots_than_fit_in_one_statement_are_drawn_and_reversed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(sql, "PARAMETERS_AT_ONCE", 50)
    make_small_lots(world, 9)
    redemption_id = world.redeem(world.asha, 9).json()["redemptionId"]
    redemption = Redemption.objects.get(org=world.org, public_id=redemption_id)
    assert redemption.draws.count() == 9
    assert world.reverse(redemption, 8, key="key-1").json()["pointsReversed"] == 8.0
    assert Lot.objects.filter(org=world.org, points_remaining=1).count() == 8
    assert broken_laws(world.org.id) == []


# Dry run


def test_dry_run_has_the_same_reply_without_id_and_moves_nothing(world: World) -> None:
    lot = make_lot(world.asha, 10, program=world.program)
    with time_machine.travel(timezone.now(), tick=False):
        dry = world.redeem(world.asha, 4, key="key-1", commit=False).json()
        assert (redemptions(world), remaining(lot)) == (0, [10])
        real = world.redeem(world.asha, 4, key="key-1").json()
    assert dry.pop("dryRun") is True
    real.pop("redemptionId")
    assert dry == real
    assert [attempt.is_dry_run for attempt in world.attempts()] == [True, False]


def test_dry_run_is_refused_like_the_redemption(world: World) -> None:
    refused = world.redeem(world.asha, 4, commit=False)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, 818)


# Repeats


def test_key_repeats_the_reply_byte_for_byte(world: World) -> None:
    lot = make_lot(world.asha, 10, program=world.program)
    first, again = (world.redeem(world.asha, 4, key="key-1") for _ in range(2))
    assert (again.status_code, again.content, again["Idempotent-Replayed"]) == (200, first.content, "true")
    assert (redemptions(world), remaining(lot)) == (1, [6])


@pytest.mark.parametrize("changes", [{"points": 5}, {"transactionNumber": "T-2"}, {"externalReferenceNumber": "E-1"}])
def test_key_of_a_different_redemption_is_422(world: World, changes: dict[str, object]) -> None:
    make_lot(world.asha, 10, program=world.program)
    world.redeem(world.asha, 4, key="key-1")
    refused = world.redeem(world.asha, **({"amount": changes.pop("points", 4), "key": "key-1"} | changes))
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, 887)
    assert redemptions(world) == 1


def test_key_of_a_redemption_is_refused_for_a_reversal(world: World) -> None:
    redemption = redeemed(world)
    make_lot(world.asha, 10, program=world.program)
    world.redeem(world.asha, 4, key="key-1")
    refused = world.reverse(redemption, 4, key="key-1")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, 887)


def test_key_repeats_its_refusal_even_after_points_are_awarded(world: World) -> None:
    first = world.redeem(world.asha, 4, key="key-1")
    make_lot(world.asha, 10, program=world.program)
    again = world.redeem(world.asha, 4, key="key-1")
    assert (first.status_code, again.status_code, again.content) == (400, 400, first.content)


def test_repeated_reference_number_with_same_content_returns_the_first_redemption(world: World) -> None:
    lot = make_lot(world.asha, 10, program=world.program)
    first = world.redeem(world.asha, 4, externalReferenceNumber="E-1", transactionNumber="T-1").json()
    Customer.objects.filter(id=world.asha.id).update(status="FRAUD")
    again = world.redeem(world.asha, "4.0", externalReferenceNumber="E-1", transactionNumber="T-1", key="late")
    assert (again.status_code, again.json()) == (200, first)
    assert (redemptions(world), remaining(lot)) == (1, [6])
    assert world.redeem(world.asha, "4", externalReferenceNumber="E-1", transactionNumber="T-1", key="late").json() == (
        first
    )
    assert {attempt.redemption.public_id for attempt in world.attempts()} == {first["redemptionId"]}


def test_dry_run_with_a_known_reference_number_returns_the_first_redemption(
    world: World,
) -> None:
    make_lot(world.asha, 10, program=world.program)
    first = world.redeem(world.asha, 4, externalReferenceNumber="E-1").json()
    dry = world.redeem(world.asha, 4, externalReferenceNumber="E-1", commit=False).json()
    assert dry == first | {"dryRun": True}
    assert redemptions(world) == 1


def test_repeated_reference_number_is_marked_as_replay(world: World) -> None:
    make_lot(world.asha, 10, program=world.program)
    first, again = (world.redeem(world.asha, 4, externalReferenceNumber="E-1") for _ in range(2))
    assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")


def test_reference_number_of_a_reversed_redemption_is_refused_until_correction(world: World) -> None:
    lot = make_lot(world.asha, 10, program=world.program)
    first = world.redeem(world.asha, 4, externalReferenceNumber="E-1").json()["redemptionId"]
    redemption = Redemption.objects.get(org=world.org, public_id=first)
    reversal_id = world.reverse(redemption, 1).json()["reversalId"]
    for options in ({}, {"commit": False}, {"key": "key-1"}):
        refused = world.redeem(world.asha, 4, externalReferenceNumber="E-1", **options)
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, 887)
        reason = refused.json()["errors"][0]["reason"]
        assert (first in reason, reversal_id in reason) == (True, True)
    assert (redemptions(world), remaining(lot)) == (1, [7])
    assert correct(Reversal.objects.get(org=world.org, public_id=reversal_id)).error is None
    again = world.redeem(world.asha, 4, externalReferenceNumber="E-1")
    assert (again.status_code, again.json()["redemptionId"], remaining(lot)) == (200, first, [6])


# Repeats without key and reference number


def test_repeat_without_key_is_refused_and_names_the_first_redemption(world: World) -> None:
    lot = make_lot(world.asha, 10, program=world.program)
    first = world.redeem(world.asha, 4, transactionNumber="T-1").json()["redemptionId"]
    refused = world.redeem(world.asha, "4.0", transactionNumber="T-1", programId=world.program.public_id)
    assert (refused.status_code, refused.json()["errors"][0]) == (
        400,
        {
            "status": False,
            "code": 902,
            "message": "Duplicate redemption request",
            "reason": f"The same request was accepted a moment ago as redemption {first}. To make another redemption,"
            " send an Idempotency-Key or an externalReferenceNumber.",
        },
    )
    dry = world.redeem(world.asha, 4, transactionNumber="T-1", commit=False)
    assert dry.json()["errors"][0]["code"] == 902
    assert (redemptions(world), remaining(lot)) == (1, [6])


@pytest.mark.parametrize(
    "other",
    [
        {"amount": 3},
        {"transactionNumber": "T-2"},
        {"transactionNumber": None},
        {"key": "key-1"},
        {"headers": {"X-Idempotency-Key": "key-1"}},
        {"externalReferenceNumber": "E-1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("other_first", [False, True])
def test_different_redemption_within_the_window_is_accepted(
    world: World, other: dict[str, Any], other_first: bool
) -> None:
    make_lot(world.asha, 10, program=world.program)
    usual = {"amount": 4, "transactionNumber": "T-1"}
    calls = [usual | other, usual] if other_first else [usual, usual | other]
    assert [world.redeem(world.asha, **call).status_code for call in calls] == [200, 200]


def test_equal_redemption_of_another_customer_or_program_is_accepted(world: World) -> None:
    ravi, other = make_customer(world.org), make_program(world.org)
    for customer in (world.asha, ravi):
        make_lot(customer, 10, program=world.program)
    first = {"amount": 4, "programId": world.program.public_id}
    answers = [world.redeem(customer, **first).status_code for customer in (world.asha, ravi)]
    answers.append(world.redeem(world.asha, 4, programId=other.public_id).status_code)
    assert answers == [200, 200, 200]


def test_imported_redemption_and_dry_run_make_no_later_request_a_duplicate(world: World) -> None:
    redeemed(world, 4, at=timezone.now() - timedelta(seconds=1))
    make_lot(world.asha, 10, program=world.program)
    dry, real = world.redeem(world.asha, 4, commit=False), world.redeem(world.asha, 4)
    assert (dry.status_code, real.status_code) == (200, 200)


@pytest.mark.parametrize(("seconds", "code"), [(59, 902), (61, None)])
def test_duplicate_window_of_redemptions_lasts_60_seconds(world: World, seconds: int, code: int | None) -> None:
    make_lot(world.asha, 10, program=world.program)
    first = world.redeem(world.asha, 4).json()["redemptionId"]
    Redemption.objects.filter(public_id=first).update(redeemed_at=timezone.now() - timedelta(seconds=seconds))
    again = world.redeem(world.asha, 4).json()
    assert (again["errors"][0]["code"] if again["errors"] else None) == code


def test_duplicate_window_of_redemptions_can_be_changed_and_turned_off(world: World) -> None:
    make_lot(world.asha, 10, program=world.program)
    setting = "Redemption_duplicate_window_seconds"
    assert [world.redeem(world.asha, 1).status_code for _ in range(2)] == [200, 400]
    set_value(world.org, setting, "0")
    assert [world.redeem(world.asha, 1).status_code for _ in range(2)] == [200, 200]
    set_value(world.org, setting, "3600")
    Redemption.objects.filter(org=world.org).update(redeemed_at=timezone.now() - timedelta(minutes=59))
    assert world.redeem(world.asha, 1).status_code == 400
    set_value(world.org, setting, "soon")
    assert world.redeem(world.asha, 1).json()["errors"][0]["code"] == 888


def test_duplicate_is_found_in_a_group_redemption_too(world: World) -> None:
    set_value(world.org, "Enable_cross_member_redemption", "yes")
    ravi = make_customer(world.org)
    set_group(org=world.org, public_id=1, add=[world.asha.public_id, ravi.public_id])
    make_lot(ravi, 10, program=world.program)
    assert [world.redeem(each, 4).status_code for each in (world.asha, world.asha, ravi)] == [200, 400, 200]


def test_two_orgs_can_use_the_same_reference_number(world: World) -> None:
    stranger = make_world()
    for each in (world, stranger):
        make_lot(each.asha, 10, program=each.program)
        assert each.redeem(each.asha, 4, externalReferenceNumber="E-1").status_code == 200
    assert (redemptions(world), redemptions(stranger)) == (1, 1)


def test_public_id_of_an_existing_reversal_is_drawn_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reversal_id = world.reverse(redeemed(world, 10), 1).json()["reversalId"]
    ids = iter([reversal_id, "Fresh1"])
    monkeypatch.setattr("reversals.movements.redeem.movement.new_public_id", lambda: next(ids))
    assert world.redeem(world.asha, 1).json()["redemptionId"] == "Fresh1"


# The attempt


def test_attempt_records_the_redemption_and_its_request(world: World) -> None:
    make_lot(world.asha, 10, program=world.program)
    body = world.redeem(world.asha, 4, externalReferenceNumber="E-1", key="key-1")
    attempt = world.attempts()[-1]
    assert attempt.redemption.public_id == body.json()["redemptionId"]
    assert (attempt.operation, attempt.points_asked, attempt.external_reference_asked) == ("REDEEM", 4, "E-1")
    assert (attempt.http_status, attempt.code, attempt.idempotency_key) == (200, None, "key-1")
    assert attempt.request_id == body["X-CAP-REQUEST-ID"]
    assert attempt.reply.encode() == body.content


# Refusals, each with its real cause, in order of precedence

Case = Callable[[World], Callable[[], HttpResponse]]
CASES: dict[RedemptionError, Case] = {}


def case(error: RedemptionError) -> Callable[[Case], Case]:
    def register(build: Case) -> Case:
        CASES[error] = build
        return build

    return register


def address_of(world: World) -> str:
    return f"/v2/customers/{world.asha.public_id}/redemptions"


@case(RedemptionError.BODY_TOO_LARGE)
def body_too_large(world: World) -> Callable[[], HttpResponse]:
    return lambda: world.ask(b" " * 70_000, address=address_of(world))


@case(RedemptionError.NOT_JSON)
def not_json(world: World) -> Callable[[], HttpResponse]:
    return lambda: world.ask(b"<root/>", address=address_of(world), content_type="application/xml")


@case(RedemptionError.V2_NOT_ENABLED)
def v2_not_enabled(world: World) -> Callable[[], HttpResponse]:
    Org.objects.filter(id=world.org.id).update(v2_enabled=False)
    return lambda: world.redeem(world.asha, 1)


@case(RedemptionError.INVALID_REQUEST)
def invalid_request(world: World) -> Callable[[], HttpResponse]:
    return lambda: world.ask({"transactionNumber": "T-1"}, address=address_of(world))


@case(RedemptionError.POINTS_TOO_PRECISE)
def points_too_precise(world: World) -> Callable[[], HttpResponse]:
    return lambda: world.redeem(world.asha, 1.0001)


def no_database(*args: Any, **kwargs: Any) -> None:
    raise OperationalError("the database is not available")


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes one function of the call fail like a lost connection."""
    return lambda name: monkeypatch.setattr(name, no_database)


@case(RedemptionError.INVALID_SETTING)
def invalid_setting(world: World) -> Callable[[], HttpResponse]:
    set_value(world.org, "Enable_cross_member_redemption", "perhaps")
    return lambda: world.redeem(world.asha, 1)


@case(RedemptionError.CUSTOMER_NOT_FOUND)
def customer_not_found(world: World) -> Callable[[], HttpResponse]:
    stranger = make_world()
    return lambda: world.redeem(stranger.asha, 1)


@case(RedemptionError.REFERENCE_TAKEN)
def reference_taken(world: World) -> Callable[[], HttpResponse]:
    make_lot(world.asha, 10, program=world.program)
    world.redeem(world.asha, 1, externalReferenceNumber="E-1")
    return lambda: world.redeem(world.asha, 2, externalReferenceNumber="E-1")


@case(RedemptionError.WRONG_PROGRAM)
def wrong_program(world: World) -> Callable[[], HttpResponse]:
    return lambda: world.redeem(world.asha, 1, programId=make_world().program.public_id)


def has_status(status: str) -> Case:
    def build(world: World) -> Callable[[], HttpResponse]:
        Customer.objects.filter(id=world.asha.id).update(status=status)
        return lambda: world.redeem(world.asha, 1)

    return build


CASES[RedemptionError.CUSTOMER_MERGED] = has_status("MERGED")
CASES[RedemptionError.CUSTOMER_IS_FRAUD] = has_status("FRAUD")
CASES[RedemptionError.CUSTOMER_NOT_ELIGIBLE] = has_status("DEACTIVATED")


@case(RedemptionError.MORE_THAN_AVAILABLE)
def more_than_available(world: World) -> Callable[[], HttpResponse]:
    make_lot(world.asha, 10, program=world.program)
    make_lot(world.asha, 5, program=world.program, expires_at=days_ago(1))
    return lambda: world.redeem(world.asha, 10.001)


@case(RedemptionError.KEY_OF_ANOTHER_REQUEST)
def key_of_another_request(world: World) -> Callable[[], HttpResponse]:
    world.redeem(world.asha, 1, key="key-1")
    return lambda: world.redeem(world.asha, 2, key="key-1")


@case(RedemptionError.DUPLICATE)
def duplicate(world: World) -> Callable[[], HttpResponse]:
    make_lot(world.asha, 10, program=world.program)
    world.redeem(world.asha, 1)
    return lambda: world.redeem(world.asha, 1)


# Caused by locks and outages: see the tests below and test_races.py.
BY_THE_DATABASE = {
    RedemptionError.UNAVAILABLE,
    RedemptionError.BUSY,
    RedemptionError.DATABASE_FAILED,
    RedemptionError.UNFORESEEN,
    RedemptionError.KEY_IN_USE,
}


def test_every_refusal_has_a_case() -> None:
    assert {*CASES, *BY_THE_DATABASE} == set(RedemptionError)


@pytest.mark.parametrize("error", CASES, ids=lambda error: error.name)
def test_each_refusal_has_its_code_and_writes_only_the_attempt(world: World, error: RedemptionError) -> None:
    ask = CASES[error](world)
    before = redemptions(world), Draw.objects.filter(org=world.org).count(), world.written()
    response = ask()
    refusal = response.json()["errors"][0]
    assert (response.status_code, refusal["code"], refusal["message"]) == (error.status, error.code, error.message)
    assert (refusal["status"], bool(refusal["reason"])) == (False, True)
    assert "orgId" not in response.json()
    assert (redemptions(world), Draw.objects.filter(org=world.org).count(), world.written()) == before
    attempt = world.attempts()[-1]
    assert (attempt.operation, attempt.rule, attempt.code) == ("REDEEM", error.name, error.code)


@pytest.mark.parametrize(
    ("error", "statement"),
    [
        (RedemptionError.UNAVAILABLE, "reversals.api.authentication.find_caller"),
        (RedemptionError.DATABASE_FAILED, "loyalty.ledger.locks.lock_wallet"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_outage_is_answered_with_the_message_of_a_redemption(
    world: World, outage: Callable[[str], None], error: RedemptionError, statement: str
) -> None:
    outage(statement)
    response = world.redeem(world.asha, 1, key="key-1")
    refusal = response.json()["errors"][0]
    assert (response.status_code, refusal["code"], refusal["message"]) == (503, error.code, error.message)
    assert "Retry-After" in response


def test_outage_during_authentication_is_answered_with_the_message_of_a_redemption(
    world: World, outage: Callable[[str], None]
) -> None:
    outage("reversals.api.authentication.find_caller")
    error = RedemptionError.UNAVAILABLE
    response = world.redeem(world.asha, 1)
    assert (response.status_code, response.json()["errors"][0]["message"]) == (503, error.message)


def test_unexpected_error_is_answered_with_the_message_of_a_redemption(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_ids, "_PUBLIC_ID_CHARACTERS", "")
    make_lot(world.asha, 10, program=world.program)
    response = world.redeem(world.asha, 1)
    error = RedemptionError.UNFORESEEN
    assert (response.status_code, response.json()["errors"][0]["message"]) == (500, error.message)
    assert redemptions(world) == 0


def test_refusals_are_checked_in_order_of_precedence(world: World) -> None:
    """Starts with the causes of all refusals of the rules, and removes them one by one."""
    program = Program.objects.get(id=world.program.id)
    set_value(world.org, "Enable_cross_member_redemption", "perhaps")
    Customer.objects.filter(id=world.asha.id).update(status="MERGED", public_id=7)
    make_lot(world.asha, 10, program=program)
    other = make_customer(world.org)
    Redemption.objects.create(
        org=world.org,
        program=program,
        customer=other,
        public_id="R1",
        points=1,
        redeemed_at=days_ago(1),
        external_reference_number="E-1",
    )

    def asked(program_id: object, reference: str) -> int:
        body = {"points": 11, "programId": program_id, "externalReferenceNumber": reference}
        return int(
            world.ask(body, address=f"/v2/customers/{world.asha.public_id}/redemptions").json()["errors"][0]["code"]
        )

    answers = [asked(0, "E-1")]
    set_value(world.org, "Enable_cross_member_redemption", "no")
    answers.append(asked(0, "E-1"))
    Customer.objects.filter(id=world.asha.id).update(public_id=world.asha.public_id)
    answers += [asked(0, "E-1"), asked(0, "E-2"), asked(program.public_id, "E-2")]
    for status in ("FRAUD", "DEACTIVATED", "ACTIVE"):
        Customer.objects.filter(id=world.asha.id).update(status=status)
        answers.append(asked(program.public_id, "E-2"))
    body = {"points": 11, "programId": program.public_id}
    extra = make_lot(world.asha, 1, program=program)
    assert world.ask(body, address=address_of(world)).status_code == 200
    for status in ("DEACTIVATED", "ACTIVE"):
        Customer.objects.filter(id=world.asha.id).update(status=status)
        answers.append(world.ask(body, address=address_of(world)).json()["errors"][0]["code"])
    assert remaining(extra) == [0]
    assert answers == [888, 816, 887, 885, 8069, 809, 881, 818, 881, 902]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "points"),
        ({"points": None}, "points"),
        ({"points": 0}, "points"),
        ({"points": -1}, "points"),
        ({"points": "1e3"}, "points"),
        ({"points": True}, "points"),
        ({"points": 10**12}, "points"),
        ({"points": 1, "commit": "no"}, "commit"),
        ({"points": 1, "commit": 0}, "commit"),
        ({"points": 1, "programId": ""}, "programId"),
        ({"points": 1, "programId": "9" * 65}, "programId"),
        ({"points": 1, "externalReferenceNumber": "x" * 129}, "externalReferenceNumber"),
        ({"points": 1, "transactionNumber": "x" * 129}, "transactionNumber"),
        ({"points": 1, "externalReferenceNumber": ["E"]}, "externalReferenceNumber"),
    ],
)
def test_refusal_names_the_invalid_field(world: World, body: dict[str, object], field: str) -> None:
    make_lot(world.asha, 10, program=world.program)
    response = world.ask(body, address=address_of(world))
    refusal = response.json()["errors"][0]
    assert (response.status_code, refusal["code"], refusal["reason"].partition(":")[0]) == (400, 887, field)


@pytest.mark.parametrize("field", ["programId", "transactionNumber", "externalReferenceNumber"])
def test_invalid_field_is_refused_before_too_many_decimals(world: World, field: str) -> None:
    response = world.redeem(world.asha, 0.0001, **{field: []})
    assert response.json()["errors"][0]["code"] == 887


@pytest.mark.parametrize("name", ["dryRun", "dryrun", "dry_run", "dry-run"])
def test_dry_run_parameter_in_the_query_is_refused_and_moves_nothing(world: World, name: str) -> None:
    lot = make_lot(world.asha, 10, program=world.program)
    response = world.ask({"points": 1}, address=f"{address_of(world)}?{name}=true")
    refusal = response.json()["errors"][0]
    assert (response.status_code, refusal["code"]) == (400, 887)
    assert refusal["reason"] == f'{name}: expected "commit": false in the body.'
    assert remaining(lot) == [10]


def test_texts_of_the_maximum_length_are_accepted(world: World) -> None:
    make_lot(world.asha, 10, program=world.program)
    longest = {"transactionNumber": "t" * 128, "externalReferenceNumber": "e" * 128}
    body = world.redeem(world.asha, 1, **longest).json()
    assert {name: body[name] for name in longest} == longest
    assert world.redeem(world.asha, 1, programId="9" * 64).json()["errors"][0]["code"] == 885


@pytest.mark.parametrize("customer_id", ["0", "-1", "01", "abc", "9" * 30, "%00", "1%2F2", "٣"])
def test_malformed_customer_id_is_an_unknown_customer(world: World, customer_id: str) -> None:
    response = world.ask({"points": 1}, address=f"/v2/customers/{customer_id}/redemptions")
    code = response.json()["errors"][0]["code"]
    assert (response.status_code, code) in {(400, 816), (404, 404)}
    # An address that is not this view's records no attempt.
    assert [attempt.code for attempt in world.attempts()] == ([816] if code == 816 else [])


@pytest.mark.parametrize("password", ["wrong", ""])
def test_wrong_credentials_are_401(world: World, password: str) -> None:
    response = world.redeem(world.asha, 1, password=password)
    assert (response.status_code, response.json()["errors"][0]["message"]) == (401, "Unauthorized")


def test_other_method_is_405(world: World) -> None:
    response = Client().get(address_of(world), headers={"Authorization": basic(world.username, world.secret)})
    assert (response.status_code, response["Allow"]) == (405, "POST")


def test_program_id_is_required_if_the_org_has_several_programs(world: World) -> None:
    other = make_program(world.org, is_active=False)
    make_lot(world.asha, 10, program=world.program)
    asked = [world.redeem(world.asha, 1, **fields) for fields in ({}, {"programId": other.public_id})]
    assert [response.json()["errors"][0]["code"] for response in asked] == [885, 885]
    assert world.redeem(world.asha, 1, programId=str(world.program.public_id)).status_code == 200


def test_refusal_reveals_nothing_about_the_redemption_with_the_reference_number(world: World) -> None:
    make_lot(world.asha, 10, program=world.program)
    first = world.redeem(world.asha, 1, externalReferenceNumber="E-1").json()
    refused = world.redeem(make_customer(world.org), 1, externalReferenceNumber="E-1")
    assert refused.status_code == 422
    assert first["redemptionId"] not in refused.content.decode()
    assert str(world.asha.public_id) not in refused.content.decode()


def test_lot_is_expired_from_its_exact_expiry_time(world: World) -> None:
    moment = timezone.now() + timedelta(days=1)
    make_lot(world.asha, 10, program=world.program, expires_at=moment)
    with time_machine.travel(moment, tick=False):
        assert world.redeem(world.asha, 1).json()["errors"][0]["code"] == 818
    with time_machine.travel(moment - timedelta(microseconds=1), tick=False):
        assert world.redeem(world.asha, 1).status_code == 200


def test_facts_are_read_after_the_lock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules see changes that were made during the wait for the lock."""
    lot = make_lot(world.asha, 10, program=world.program)
    lock = locks.lock_customer

    def lock_late(**options: Any) -> Any:
        locked = lock(**options)
        Lot.objects.filter(id=lot.id).update(points_remaining=3)
        return locked

    monkeypatch.setattr(locks, "lock_customer", lock_late)
    seen: list[Decimal] = []
    decide = rules.plan_redemption

    def look(facts: rules.Facts) -> rules.Plan:
        seen.extend(lot.facts.points_remaining for lot in facts.lots)
        return decide(facts)

    monkeypatch.setattr(rules, "plan_redemption", look)
    assert world.redeem(world.asha, 4).json()["errors"][0]["code"] == 818
    assert seen == [3]
