"""The lists and pages of reversals, corrections, attempts and events: content, permissions and filters."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from loyalty.admin.statuses import Status, badge
from loyalty.importing.bulk import analyze
from loyalty.ledger.distribution import is_distributed
from loyalty.models import ApiClient, Lot, OrgAccess
from reversals.admin.events import data_of
from reversals.admin.filters import ByRule
from reversals.admin.statuses import status_of_reversal
from reversals.models import Approval, Attempt, Correction, Delivery, Event, Reversal
from reversals.refusals import CorrectionError, ErrorCode, RedemptionError
from tests.builders import (
    World,
    ask_to_correct,
    days_ago,
    in_days,
    make_customer,
    make_lot,
    make_program,
    make_webhook,
    make_world,
    points,
    redeem,
    redeemed,
    request_for,
    set_value,
    staff_of,
)

pytestmark = pytest.mark.django_db

XSS = "<script>alert(1)</script>"
LISTS = ["loyalty_customer", "loyalty_lot", "loyalty_redemption", "reversals_reversal", "reversals_attempt"]


@pytest.fixture
def auditor(world: World) -> Client:
    return staff_of(world, "Auditor")


def listed(client: Client, name: str, /, **filters: Any) -> list[Any]:
    response = client.get(reverse(f"admin:{name}_changelist"), filters)
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


def page(client: Client, row: Any) -> HttpResponse:
    name = row._meta.label_lower.replace(".", "_")
    response = client.get(reverse(f"admin:{name}_change", args=[row.pk]))
    assert response.status_code == 200
    return response


def make_attempt(world: World, **values: Any) -> Attempt:
    given = {"created_at": timezone.now(), "channel": "API", "made_by": "till.1"} | values
    return Attempt.objects.create(org=world.org, **given)


def make_correction(world: World, reversal: Reversal) -> Correction:
    approval = Approval.objects.create(
        org=world.org,
        redemption=reversal.redemption,
        corrects=reversal,
        points=reversal.points,
        key="k",
        channel="ADMIN",
        reason="wrong customer",
        asked_by="meera",
        asked_at=timezone.now(),
        lapses_at=in_days(1),
        status="APPROVED",
        decided_by="ravi",
        decided_at=timezone.now(),
    )
    return Correction.objects.create(
        org=world.org,
        reversal=reversal,
        approval=approval,
        points=reversal.points,
        made_by="meera",
        approved_by="ravi",
        reason="wrong customer",
        created_at=timezone.now(),
    )


# Pages


def test_a_reversal_shows_its_lines_lot_by_lot(world: World, auditor: Client) -> None:
    set_value(world.org, "Reversal_reissue_days", "30")
    expired = make_lot(world.asha, 4, program=world.program, expires_at=days_ago(1))
    lasting = make_lot(world.asha, 6, program=world.program)
    redemption = redeem(world.asha, 10, program=world.program, at=days_ago(2))
    world.reverse(redemption, 9, key="k-1")
    reversal = Reversal.objects.get(org=world.org)
    shown = page(auditor, reversal).context
    text = page(auditor, reversal).content.decode()
    assert [(row[4], row[5], row[6]) for row in shown["lines"]["rows"]] == [("6", "6", "0"), ("3", "3", "0")]
    assert all(lot.lot_ref in text for lot in (expired, lasting))
    assert Lot.objects.get(reissuing_lines__reversal=reversal).lot_ref in text
    assert ("Points reversed", "9") in shown["facts"]
    assert ("Idempotency key", "sent") in shown["facts"]


def test_points_without_a_lot_are_shown_as_no_lot(world: World, auditor: Client) -> None:
    set_value(world.org, "Reversal_reissue_days", "30")
    world.reverse(redeem(world.asha, 5, program=world.program), 5)
    rows = page(auditor, Reversal.objects.get(org=world.org)).context["lines"]["rows"]
    assert [row[:5] for row in rows] == [["no lot", "", "", "", "5"]]


def test_a_reversal_links_to_its_related_rows(world: World, auditor: Client) -> None:
    redemption = redeemed(world)
    world.reverse(redemption, 4)
    reversal, attempt = Reversal.objects.get(org=world.org), Attempt.objects.get(org=world.org)
    correction = make_correction(world, reversal)
    text = page(auditor, reversal).content.decode()
    for row in (redemption, world.asha, attempt, correction, correction.approval):
        name = row._meta.label_lower.replace(".", "_")
        assert reverse(f"admin:{name}_change", args=[row.pk]) in text
    assert "Reversal</dt>" in page(auditor, correction).content.decode()


def test_an_id_keeps_its_lower_case_letters(world: World, auditor: Client) -> None:
    redemption = redeemed(world, public_id="aBc")
    text = page(auditor, redemption).content.decode()
    assert "aBc" in text
    assert "ABc" not in text


def test_a_refused_attempt_shows_request_result_and_rule(world: World, auditor: Client) -> None:
    redemption = redeemed(world, 10)
    world.reverse(redemption, 99, key="till-1:7")
    shown = page(auditor, Attempt.objects.get(org=world.org)).context
    asked, answered = dict(shown["asked"]), dict(shown["answered"])
    assert (asked["Redemption id"], asked["Points requested"], asked["Made by"]) == (
        redemption.public_id,
        "99",
        "till.1",
    )
    assert (asked["Idempotency key"], asked["Channel"], asked["Client address"]) == ("till-1:7", "API", "127.0.0.1")
    assert redemption.public_id in asked["Redemption"]
    assert (answered["Result"], answered["Rule"]) == (badge(Status("refused 817", "danger")), "MORE_THAN_LEFT")
    assert answered["Published message"] == ErrorCode.MORE_THAN_LEFT.message
    assert answered["Refused by"] == "rule 14 in the order of refusals"
    assert "10" in answered["Refusal reason"]
    assert json.loads(shown["reply"])["errors"][0]["code"] == 817


def test_an_accepted_attempt_shows_its_reversal_and_its_lines(world: World, auditor: Client) -> None:
    world.reverse(redeemed(world, 10), 4)
    shown = page(auditor, Attempt.objects.get(org=world.org)).context
    assert Reversal.objects.get(org=world.org).public_id in dict(shown["answered"])["Reversal"]
    assert [row[4] for row in shown["lines"]["rows"]] == ["4"]


@pytest.mark.parametrize("values", [{}, {"rule": "OF_OLD", "code": 999}, {"reply": "not json"}])
def test_an_attempt_with_missing_values_has_a_page(world: World, auditor: Client, values: dict[str, object]) -> None:
    page(auditor, make_attempt(world, **values))


def test_an_attempt_by_external_reference_links_to_its_redemption(world: World, auditor: Client) -> None:
    redemption = redeemed(world, external_reference_number="EXT-5")
    body = request_for(redemption, 1)
    del body["redemptionId"]
    world.ask(body | {"externalReferenceNumber": "EXT-5"})
    asked = dict(page(auditor, Attempt.objects.get(org=world.org)).context["asked"])
    assert redemption.public_id in asked["Redemption"]


def test_markup_in_attempts_is_escaped(world: World, auditor: Client) -> None:
    attempt = make_attempt(
        world, made_by=XSS, reason=XSS, rule="NOT_FOUND", code=804, refusal_reason=XSS, reply=json.dumps({"x": XSS})
    )
    for text in (
        page(auditor, attempt).content.decode(),
        auditor.get(reverse("admin:reversals_attempt_changelist")).content.decode(),
    ):
        assert XSS not in text
        assert "&lt;script&gt;" in text


def test_identifiers_are_masked_in_attempts(world: World) -> None:
    customer = make_customer(world.org, identifiers={"MOBILE": "9876543210"})
    make_lot(customer, 10, program=world.program)
    redemption = redeem(customer, 10, program=world.program)
    world.ask(request_for(redemption, 1, identifier={"type": "MOBILE", "value": "9876543210"}))
    support = staff_of(world, "Support")
    text = page(support, Attempt.objects.get(org=world.org)).content.decode()
    assert "9876543210" not in text
    assert "********3210" in text


@pytest.mark.parametrize("sees", [True, False])
def test_event_data_is_masked_for_users_without_permission_to_see_identifiers(world: World, sees: bool) -> None:
    customer = make_customer(world.org, identifiers={"MOBILE": "9876543210"})
    make_lot(customer, 10, program=world.program)
    make_webhook(world.org)
    redemption = redeem(customer, 10, program=world.program)
    world.ask(request_for(redemption, 1, identifier={"type": "MOBILE", "value": "9876543210"}))
    viewer = User.objects.create_user("vik", is_staff=True)
    OrgAccess.objects.create(user=viewer, org=world.org)
    names = ["view_event", "view_delivery", *(["see_identifiers"] if sees else [])]
    viewer.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(viewer)
    event, delivery = Event.objects.get(org=world.org), Delivery.objects.get(org=world.org)
    Delivery.objects.filter(pk=delivery.pk).update(last_answer="no 919876543210 here")
    texts = [page(client, row).content.decode() for row in (event, delivery)]
    assert ["919876543210" in text for text in texts] == [sees, sees]
    assert json.loads(data_of(event, unmasked=False))["customerIdentifiers"]["instore"] == {"mobile": "********3210"}


@pytest.mark.parametrize("name", LISTS)
def test_rows_of_another_org_are_neither_listed_nor_opened(world: World, auditor: Client, name: str) -> None:
    stranger = make_world()
    stranger.reverse(redeemed(stranger), 1)
    assert listed(auditor, name, org=stranger.org.id) == ([world.asha] if name == "loyalty_customer" else [])
    model = {each._meta.label_lower.replace(".", "_"): each for each in (Reversal, Attempt)}.get(name)
    if model is not None:
        address = reverse(f"admin:{name}_change", args=[model._default_manager.get(org=stranger.org).pk])
        assert auditor.get(address).status_code == 302


# Filters


def test_attempts_are_filtered_by_result(world: World, auditor: Client) -> None:
    accepted = make_attempt(world)
    refused = make_attempt(world, rule="NOT_FOUND", code=804)
    busy = make_attempt(world, rule="BUSY", code=896)
    assert listed(auditor, "reversals_attempt") == [busy, refused, accepted]
    assert listed(auditor, "reversals_attempt", rule="accepted") == [accepted]
    assert listed(auditor, "reversals_attempt", rule="refused") == [busy, refused]
    assert listed(auditor, "reversals_attempt", rule="BUSY") == [busy]


def test_a_request_for_approval_is_not_a_refusal(world: World, auditor: Client) -> None:
    refused = make_attempt(world, rule="NOT_FOUND", code=804)
    requested = make_attempt(world, rule="NEEDS_APPROVAL", code=403)
    assert listed(auditor, "reversals_attempt", rule="refused") == [refused]
    assert listed(auditor, "reversals_attempt", rule="NEEDS_APPROVAL") == [requested]
    assert "approval requested" in auditor.get(reverse("admin:reversals_attempt_changelist")).content.decode()
    home = auditor.get(reverse("admin:index")).context
    assert [refusal.code for refusal in home["refusals"]] == [804]


def test_reversals_are_filtered_by_status(world: World, auditor: Client) -> None:
    for _ in range(3):
        world.reverse(redeemed(world), 4)
    valid, corrected, waiting = Reversal.objects.order_by("id")
    make_correction(world, corrected)
    ask_to_correct(waiting)
    for status, reversal in [("valid", [waiting, valid]), ("corrected", [corrected]), ("waiting", [waiting])]:
        assert listed(auditor, "reversals_reversal", status=status) == reversal
    statuses = [status_of_reversal(row).text for row in listed(auditor, "reversals_reversal")]
    assert statuses == ["waiting for correction", "corrected", "valid"]


def test_every_refusal_can_be_selected_in_the_filter(auditor: Client) -> None:
    response = auditor.get(reverse("admin:reversals_attempt_changelist"))
    filters = response.context["cl"].filter_specs
    choices = [value for each in filters if isinstance(each, ByRule) for value, _ in each.lookup_choices]
    errors = [error for ladder in (ErrorCode, RedemptionError, CorrectionError) for error in ladder]
    wanted = {f"{error.name}.{error.code}" for error in errors if error.name != "NEEDS_APPROVAL"}
    assert wanted | {"NEEDS_APPROVAL"} <= set(choices)
    assert len(choices) == len(set(choices))


def test_rules_with_one_name_and_two_codes_are_two_choices(world: World, auditor: Client) -> None:
    blocked = make_attempt(world, rule="CUSTOMER_NOT_ELIGIBLE", code=901)
    deactivated = make_attempt(world, operation="REDEEM", rule="CUSTOMER_NOT_ELIGIBLE", code=881)
    assert listed(auditor, "reversals_attempt", rule="CUSTOMER_NOT_ELIGIBLE.881") == [deactivated]
    assert listed(auditor, "reversals_attempt", rule="CUSTOMER_NOT_ELIGIBLE") == [deactivated, blocked]


@pytest.mark.parametrize(("period", "count"), [("today", 1), ("7", 2), ("", 3), ("30", 3), ("90", 4), ("all", 5)])
def test_lists_go_back_to_the_selected_period(world: World, auditor: Client, period: str, count: int) -> None:
    for days in (0, 5, 20, 80, 200):
        make_attempt(world, created_at=days_ago(days))
    assert len(listed(auditor, "reversals_attempt", **({"period": period} if period else {}))) == count


def test_a_search_covers_all_time(world: World, auditor: Client) -> None:
    old = make_attempt(world, created_at=days_ago(200), redemption_id_asked="OLD")
    held = make_attempt(world, idempotency_key="till-1:9", holds_key=True)
    assert listed(auditor, "reversals_attempt", q=" OLD ") == [old]
    assert listed(auditor, "reversals_attempt", q="till-1:9") == [held]
    assert listed(auditor, "reversals_attempt", q="OL") == []


def test_attempts_are_filtered_by_channel_operation_dry_run_client_and_program(world: World, auditor: Client) -> None:
    till = ApiClient.objects.get(org=world.org)
    redemption = redeemed(world)
    rare = make_program(world.org)
    manual = make_attempt(world, channel="ADMIN")
    redeeming = make_attempt(world, operation="REDEEM", redemption=redemption)
    dry = make_attempt(world, is_dry_run=True, redemption_id_asked=redemption.public_id)
    of_client = make_attempt(world, client=till)
    assert listed(auditor, "reversals_attempt", channel__exact="ADMIN") == [manual]
    assert listed(auditor, "reversals_attempt", operation="REDEEM") == [redeeming]
    assert listed(auditor, "reversals_attempt", is_dry_run__exact="1") == [dry]
    assert listed(auditor, "reversals_attempt", client=till.pk) == [of_client]
    assert listed(auditor, "reversals_attempt", program=world.program.pk) == [dry, redeeming]
    assert listed(auditor, "reversals_attempt", program=rare.pk) == []


def test_reversals_are_filtered_by_channel_client_and_program(world: World, auditor: Client) -> None:
    till = ApiClient.objects.get(org=world.org)
    world.reverse(redeemed(world), 1)
    reversals = list(Reversal.objects.filter(org=world.org))
    other = make_program(world.org)
    for filters, found in [
        ({"channel__exact": "API"}, reversals),
        ({"channel__exact": "BULK"}, []),
        ({"client": till.pk}, reversals),
        ({"program": world.program.pk}, reversals),
        ({"program": other.pk}, []),
        ({"program": "x"}, reversals),
        ({"q": reversals[0].public_id}, reversals),
        ({"customer__id__exact": world.asha.pk}, reversals),
    ]:
        assert listed(auditor, "reversals_reversal", **filters) == found, filters


def test_the_program_filter_searches_a_limited_number_of_attempts(
    world: World, auditor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loyalty.admin.lists.LOOKED_THROUGH", 2)
    redemption = redeemed(world)
    attempts = [
        make_attempt(world, redemption_id_asked=redemption.public_id, created_at=days_ago(day)) for day in (3, 2, 1)
    ]
    response = auditor.get(reverse("admin:reversals_attempt_changelist"), {"program": world.program.pk})
    assert list(response.context["cl"].result_list) == attempts[:0:-1]
    assert "searches only the newest 2 rows of the period by program" in response.content.decode()


# Queries


RARE = [
    ("reversals_attempt", {"rule": "BUSY"}, "attempts_by_rule"),
    ("reversals_attempt", {"rule": "refused"}, "attempts_refused|attempts_by_rule"),
    ("reversals_attempt", {"channel__exact": "BULK"}, "attempts_unusual"),
    ("reversals_attempt", {"is_dry_run__exact": "1"}, "attempts_unusual"),
    ("reversals_attempt", {"operation": "CORRECT"}, "attempts_unusual"),
    ("reversals_reversal", {"channel__exact": "BULK"}, "reversals_by_hand"),
]


@pytest.mark.parametrize(("name", "filters", "index"), RARE)
def test_rare_rows_are_found_by_an_index_of_rare_rows(
    on_postgresql: None, world: World, auditor: Client, name: str, filters: dict[str, str], index: str
) -> None:
    redemption = redeemed(world, 1000)
    many = [Attempt(**accepted_by_api(world), operation="REVERSE", rule="", http_status=200) for _ in range(2_000)]
    Attempt.objects.bulk_create(many)
    named = [f"{number:06}" for number in range(2_000)]
    amounts = {"points": points(1), "points_available": points(1), "points_expired": points(0)}
    parents = {"redemption": redemption, "customer": world.asha, "has_key": False}
    Reversal.objects.bulk_create(
        [Reversal(**accepted_by_api(world), **amounts, **parents, public_id=name) for name in named]
    )
    with CaptureQueriesContext(connection) as captured, connection.cursor() as cursor:
        analyze(cursor, "reversals_attempt", "reversals_reversal")
        assert listed(auditor, name, **filters) == []
        count, asked = [query["sql"] for query in captured.captured_queries if f'FROM "{name}"' in query["sql"]]
        assert "LIMIT 1001" in count
        if is_distributed():  # the rows are in one shard of 32, and EXPLAIN shows any
            cursor.execute("SET LOCAL citus.explain_all_tasks = on")
        cursor.execute(f"EXPLAIN {asked}")
        assert re.search(f"Index Scan( Backward)? using ({index})(_\\d+)? ", str(cursor.fetchall()))


def accepted_by_api(world: World) -> dict[str, Any]:
    return {"org": world.org, "created_at": days_ago(1), "channel": "API", "made_by": "till.1"}


@pytest.mark.parametrize("name", [*LISTS, "reversals_correction", "reversals_event", "reversals_delivery"])
def test_lists_send_a_constant_number_of_queries_and_no_unlimited_count(
    world: World, auditor: Client, name: str, count_queries: Callable[..., int]
) -> None:
    make_webhook(world.org)

    def fill(count: int) -> None:
        for _ in range(count):
            world.reverse(redeemed(world), 1)

    fill(3)
    listed(auditor, name)
    few = count_queries(lambda: listed(auditor, name))
    fill(12)
    connection.queries_log.clear()
    with connection.execute_wrapper(_refuse_count):
        assert count_queries(lambda: listed(auditor, name)) == few


def _refuse_count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    assert "COUNT(*)" not in sql.upper() or "LIMIT 1001" in sql, sql
    return execute(sql, params, many, context)
