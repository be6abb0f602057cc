"""Every refusal of a reversal over HTTP: its cause, its precedence, and that it moves no points."""

import json
from base64 import b64encode
from collections.abc import Callable

import pytest
from django.http import HttpResponse
from django.test import Client

from loyalty.models import Customer, Org
from reversals.refusals import ErrorCode
from tests.builders import (
    ADDRESS,
    ON,
    World,
    basic,
    days_ago,
    in_days,
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

# Creates the cause of a refusal, and returns the request that is refused.
Case = Callable[[World], Callable[[], HttpResponse]]
CASES: dict[ErrorCode, Case] = {}


def case(error: ErrorCode) -> Callable[[Case], Case]:
    def register(build: Case) -> Case:
        CASES[error] = build
        return build

    return register


@case(ErrorCode.BODY_TOO_LARGE)
def body_too_large(world: World) -> Callable[[], HttpResponse]:
    return lambda: world.ask(b'{"note":"' + b"x" * 70_000 + b'"}')


@case(ErrorCode.NOT_JSON)
def not_json(world: World) -> Callable[[], HttpResponse]:
    return lambda: world.ask(b"<root/>", content_type="application/xml")


@case(ErrorCode.V2_NOT_ENABLED)
def v2_not_enabled(world: World) -> Callable[[], HttpResponse]:
    Org.objects.filter(id=world.org.id).update(v2_enabled=False)
    redemption = redeemed(world)
    return lambda: world.reverse(redemption, 1)


@case(ErrorCode.INVALID_REQUEST)
def invalid_request(world: World) -> Callable[[], HttpResponse]:
    body = request_for(redeemed(world), externalReferenceNumber="ORD-1")
    return lambda: world.ask(body)


@case(ErrorCode.POINTS_NOT_POSITIVE)
def points_not_positive(world: World) -> Callable[[], HttpResponse]:
    redemption = redeemed(world)
    return lambda: world.reverse(redemption, 0)


@case(ErrorCode.POINTS_TOO_PRECISE)
def points_too_precise(world: World) -> Callable[[], HttpResponse]:
    redemption = redeemed(world)
    return lambda: world.reverse(redemption, 1.0001)


@case(ErrorCode.UNAVAILABLE)
def unavailable(world: World) -> Callable[[], HttpResponse]:
    set_value(world.org, "Reversal_paused", "yes")
    redemption = redeemed(world)
    return lambda: world.reverse(redemption, 1)


@case(ErrorCode.INVALID_SETTING)
def invalid_setting(world: World) -> Callable[[], HttpResponse]:
    set_value(world.org, "Reversal_window_days", "soon")
    redemption = redeemed(world)
    return lambda: world.reverse(redemption, 1)


@case(ErrorCode.OFF_FOR_ORG)
def off_for_org(world: World) -> Callable[[], HttpResponse]:
    set_value(world.org, ON, "no")
    return lambda: world.ask({"redemptionId": "unknown", "identifier": {"type": "ID", "value": "1"}})


@case(ErrorCode.NOT_FOUND)
def not_found(world: World) -> Callable[[], HttpResponse]:
    ravi = make_customer(world.org)
    body = request_for(redeemed(world), identifier={"type": "ID", "value": str(ravi.public_id)})
    return lambda: world.ask(body)


@case(ErrorCode.IS_A_REVERSAL)
def is_a_reversal(world: World) -> Callable[[], HttpResponse]:
    redemption = redeemed(world, 10)
    reversal_id = world.reverse(redemption, 1).json()["reversalId"]
    return lambda: world.ask(request_for(redemption, 1, redemptionId=reversal_id))


@case(ErrorCode.WRONG_PROGRAM)
def wrong_program(world: World) -> Callable[[], HttpResponse]:
    other = make_program(world.org)
    body = request_for(redeemed(world), programId=other.public_id)
    return lambda: world.ask(body)


@case(ErrorCode.OFF_FOR_PROGRAM)
def off_for_program(world: World) -> Callable[[], HttpResponse]:
    set_value(world.org, ON, "no", program=world.program)
    redemption = redeemed(world)
    return lambda: world.reverse(redemption, 1)


@case(ErrorCode.CUSTOMER_NOT_ELIGIBLE)
def customer_not_eligible(world: World) -> Callable[[], HttpResponse]:
    Customer.objects.filter(id=world.asha.id).update(status="FRAUD")
    redemption = redeemed(world)
    return lambda: world.reverse(redemption, 1)


@case(ErrorCode.CUSTOMER_LOCKED)
def customer_locked(world: World) -> Callable[[], HttpResponse]:
    Customer.objects.filter(id=world.asha.id).update(reversals_locked=True, reversals_lock_reason="Under inquiry.")
    redemption = redeemed(world)
    return lambda: world.reverse(redemption, 1)


@case(ErrorCode.NOTHING_LEFT)
def nothing_left(world: World) -> Callable[[], HttpResponse]:
    redemption = redeemed(world, 10)
    assert world.reverse(redemption).status_code == 200
    return lambda: world.reverse(redemption, 3)


@case(ErrorCode.DUPLICATE)
def duplicate(world: World) -> Callable[[], HttpResponse]:
    redemption = redeemed(world, 10)
    assert world.reverse(redemption, 3).status_code == 200
    return lambda: world.reverse(redemption, "3.000")


@case(ErrorCode.OUTSIDE_WINDOW)
def outside_window(world: World) -> Callable[[], HttpResponse]:
    set_value(world.org, "Reversal_window_days", "30")
    redemption = redeemed(world, at=days_ago(30.01))
    return lambda: world.reverse(redemption, 1)


@case(ErrorCode.MORE_THAN_LEFT)
def more_than_left(world: World) -> Callable[[], HttpResponse]:
    redemption = redeemed(world, 10)
    return lambda: world.reverse(redemption, 10.001)


@case(ErrorCode.NO_LOT_TO_RETURN_TO)
def no_lot_to_return_to(world: World) -> Callable[[], HttpResponse]:
    make_lot(world.asha, 4, program=world.program)
    redemption = redeem(world.asha, 10, program=world.program)
    return lambda: world.reverse(redemption, 5)


@case(ErrorCode.LIMIT_EXCEEDED)
def limit_exceeded(world: World) -> Callable[[], HttpResponse]:
    set_value(world.org, "Reversal_limit_points", "5")
    redemption = redeemed(world)
    return lambda: world.reverse(redemption, 5.001)


# Refusals that need two connections or a failing database are tested in test_races.py and test_outages.py.
TESTED_ELSEWHERE = {
    ErrorCode.BUSY,
    ErrorCode.DATABASE_FAILED,
    ErrorCode.UNFORESEEN,
    ErrorCode.KEY_IN_USE,
    ErrorCode.KEY_OF_ANOTHER_REQUEST,
    ErrorCode.NEEDS_APPROVAL,
    ErrorCode.NOT_APPROVABLE,
}


def test_every_refusal_has_a_case() -> None:
    assert set(CASES) | TESTED_ELSEWHERE == set(ErrorCode)


def test_refusals_have_nineteen_rows_in_order() -> None:
    rows = [error.row for error in ErrorCode if error.row is not None]
    assert rows == sorted(rows)
    assert set(rows) == set(range(1, 20))


@pytest.mark.parametrize("error", CASES, ids=lambda error: error.name)
def test_each_refusal_has_its_code_and_writes_only_an_attempt(world: World, error: ErrorCode) -> None:
    ask = CASES[error](world)
    before = world.written()
    response = ask()
    body = json.loads(response.content)
    reason = body["errors"][0]["reason"]
    assert response.status_code == error.status
    assert body == {
        "errors": [{"status": False, "code": error.code, "message": error.message, "reason": reason}],
        "warnings": [],
    }
    assert reason
    assert response.headers.get("Retry-After") == (
        None if error.retry_after_seconds is None else str(error.retry_after_seconds)
    )
    assert world.written() == before
    last = world.attempts()[-1]
    assert (last.rule, last.code, last.http_status, last.reversal_id) == (error.name, error.code, error.status, None)
    assert last.request_id == response["X-CAP-REQUEST-ID"]


def test_first_refusal_that_applies_is_returned(world: World) -> None:
    """Starts with every cause at once. Each step removes the cause of the refusal before it."""
    org, asha, ravi = world.org, world.asha, make_customer(world.org)
    spent, lotless = (
        redeemed(world, 10, at=days_ago(40)),
        redeem(world.asha, 10, program=world.program, at=days_ago(40)),
    )
    reversal_id = world.reverse(spent).json()["reversalId"]
    for key, value in {"Reversal_paused": "yes", "Reversal_limit_points": "soon", ON: "no"}.items():
        set_value(org, key, value)
    set_value(org, ON, "no", program=world.program)
    set_value(org, "Reversal_window_days", "30")
    Customer.objects.filter(id=asha.id).update(status="FRAUD", reversals_locked=True)
    body = request_for(spent, 0, redemptionId=reversal_id, programId=999)
    body["identifier"] = {"type": "ID", "value": str(ravi.public_id)}

    def update_customer(**changes: object) -> None:
        Customer.objects.filter(id=asha.id).update(**changes)

    steps: list[tuple[ErrorCode, Callable[[], object]]] = [
        (ErrorCode.POINTS_NOT_POSITIVE, lambda: body.update(pointsToBeReversed=20.0001)),
        (ErrorCode.POINTS_TOO_PRECISE, lambda: body.update(pointsToBeReversed=20)),
        (ErrorCode.UNAVAILABLE, lambda: set_value(org, "Reversal_paused", "no")),
        (ErrorCode.INVALID_SETTING, lambda: set_value(org, "Reversal_limit_points", "15")),
        (ErrorCode.OFF_FOR_ORG, lambda: set_value(org, ON, "yes")),
        (ErrorCode.NOT_FOUND, lambda: body.update(identifier={"type": "ID", "value": str(asha.public_id)})),
        (ErrorCode.IS_A_REVERSAL, lambda: body.update(redemptionId=spent.public_id)),
        (ErrorCode.WRONG_PROGRAM, lambda: body.update(programId=world.program.public_id)),
        (ErrorCode.OFF_FOR_PROGRAM, lambda: set_value(org, ON, "yes", program=world.program)),
        (ErrorCode.CUSTOMER_NOT_ELIGIBLE, lambda: update_customer(status="ACTIVE")),
        (ErrorCode.CUSTOMER_LOCKED, lambda: update_customer(reversals_locked=False)),
        (ErrorCode.NOTHING_LEFT, lambda: body.update(redemptionId=lotless.public_id)),
        (ErrorCode.OUTSIDE_WINDOW, lambda: set_value(org, "Reversal_window_days", "90")),
        (ErrorCode.MORE_THAN_LEFT, lambda: body.update(pointsToBeReversed=10)),
        (ErrorCode.NO_LOT_TO_RETURN_TO, lambda: set_value(org, "Reversal_reissue_days", "30")),
        (ErrorCode.LIMIT_EXCEEDED, lambda: set_value(org, "Reversal_limit_points", "20")),
    ]
    for error, remove_cause in steps:
        answer = world.ask(body)
        assert (answer.status_code, answer.json()["errors"][0]["message"]) == (error.status, error.message), error
        assert world.attempts()[-1].rule == error.name
        remove_cause()
    assert world.ask(body).status_code == 200


ENGINE_CODES = {
    ErrorCode.POINTS_NOT_POSITIVE: 4102,
    ErrorCode.OFF_FOR_ORG: 4101,
    ErrorCode.NOT_FOUND: 3803,
    ErrorCode.IS_A_REVERSAL: 3804,
    ErrorCode.OFF_FOR_PROGRAM: 4101,
    ErrorCode.NOTHING_LEFT: 3802,
    ErrorCode.MORE_THAN_LEFT: 3801,
}


@pytest.mark.parametrize("error", CASES, ids=lambda error: error.name)
def test_engine_dialect_returns_200_and_the_engines_code_for_rows_4_to_16(world: World, error: ErrorCode) -> None:
    set_value(world.org, "Reversal_error_dialect", "engine")
    response = CASES[error](world)()
    answer = response.json()["errors"][0]
    in_dialect = error in ENGINE_CODES or error.is_decided_by_database
    assert response.status_code == (200 if in_dialect else error.status)
    assert answer["code"] == ENGINE_CODES.get(error, error.code)
    assert answer["status"] is False
    assert "orgId" not in response.json()


def test_reason_of_a_lock_has_its_end_but_not_its_cause(world: World) -> None:
    until = in_days(2)
    Customer.objects.filter(id=world.asha.id).update(
        reversals_locked=True, reversals_locked_until=until, reversals_lock_reason="Under inquiry."
    )
    reason = world.reverse(redeemed(world), 1).json()["errors"][0]["reason"]
    assert reason == f"Reversals are locked for this customer until {until:%Y-%m-%dT%H:%M:%SZ}."
    assert "inquiry" not in reason


def test_customer_can_be_reversed_after_the_end_of_a_lock(world: World) -> None:
    Customer.objects.filter(id=world.asha.id).update(reversals_locked=True, reversals_locked_until=days_ago(0.01))
    assert world.reverse(redeemed(world), 1).status_code == 200


def test_merged_customer_is_not_eligible_whatever_the_setting(world: World) -> None:
    set_value(world.org, "Reversal_blocked_statuses", "DEACTIVATED")
    Customer.objects.filter(id=world.asha.id).update(status="MERGED")
    assert world.reverse(redeemed(world), 1).json()["errors"][0]["code"] == 901


def test_reason_of_the_count_limit_has_setting_limit_and_count(world: World) -> None:
    set_value(world.org, "Reversal_limit_count", "1")
    redemption = redeemed(world, 10)
    assert world.reverse(redemption, 1).status_code == 200
    refused = world.reverse(redemption, 2).json()["errors"][0]
    assert (refused["code"], refused["reason"]) == (
        903,
        "Reversal_limit_count allows 1 reversal within 30 days: 1 already made for this customer.",
    )


def test_setting_of_a_program_overrides_the_orgs(world: World) -> None:
    set_value(world.org, ON, "no")
    set_value(world.org, ON, "yes", program=world.program)
    assert world.reverse(redeemed(world), 1).status_code == 200


def test_redemption_of_another_org_gets_the_same_reply_as_an_unknown_one(world: World) -> None:
    stranger = make_world()
    theirs = redeemed(stranger)
    foreign = world.ask(request_for(theirs)).json()
    unknown = world.ask(request_for(theirs, redemptionId="nobody")).json()
    assert foreign == unknown
    assert foreign["errors"][0]["code"] == 804


def test_all_wrong_credentials_get_the_same_401(world: World) -> None:
    body = request_for(redeemed(world))
    answers = [
        world.ask(body, password="wrong"),
        world.ask(body, user="nobody"),
        world.ask(body, headers={"Authorization": "Bearer x"}),
        world.ask(body, headers={"Authorization": "Basic !"}),
        world.ask(body, headers={"Authorization": "Basic " + b64encode(b"no colon").decode()}),
        world.ask(body, user="till\0", password=world.secret),
        world.ask(b"{", password="wrong"),
        Client().post(ADDRESS, body, content_type="application/json"),
    ]
    Org.objects.filter(id=world.org.id).update(is_active=False)
    answers.append(world.ask(body))
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.content for answer in answers} == {
        b'{"errors":[{"status":false,"code":401,"message":"Unauthorized",'
        b'"reason":"Send the HTTP Basic credentials of an active API client."}],"warnings":[]}'
    }
    assert all(answer["WWW-Authenticate"].startswith("Basic ") for answer in answers)
    assert world.attempts() == []


def test_unknown_methods_and_addresses_get_the_failure_envelope(world: World) -> None:
    headers = {"Authorization": basic(world.username, world.secret)}
    wrong_method = Client().get(ADDRESS, headers=headers)
    nowhere = Client(enforce_csrf_checks=True).post("/v2/points/forward")
    assert (wrong_method.status_code, wrong_method.json()["errors"][0]["code"]) == (405, 405)
    assert (nowhere.status_code, nowhere.json()["errors"][0]["code"]) == (404, 404)
    assert all(answer["X-CAP-REQUEST-ID"] for answer in (wrong_method, nowhere))


def test_unexpected_error_is_500_without_a_traceback_in_the_reply(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("reversals.movements.reverse.movement.new_public_id", broken)
    response = world.reverse(redeemed(world), 1)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (500, 804)
    assert "ZeroDivisionError" not in response.content.decode()
    assert "ZeroDivisionError" in caplog.text
    assert world.attempts()[-1].rule == "UNFORESEEN"
