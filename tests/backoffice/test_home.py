"""The home page: totals, boxes by permission, and stored totals of closed days."""

import gzip
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urljoin

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.models import OrgAccess, Webhook
from reversals.manual.bulk import runs
from reversals.models import Approval, Attempt, Correction, DayTotals, LedgerCheck, Reversal
from reversals.operations.daily_totals import Total, totals_of
from reversals.refusals import ErrorCode
from tests.builders import ON, World, days_ago, in_days, make_webhook, make_world, points, redeemed, set_value, utc

NOW = utc("2026-05-10 12:00")
BOXES = {
    "view_reversal": "reversals",
    "view_attempt": "refusals",
    "view_approval": "approvals",
    "view_ledgercheck": "check",
}


def client_for(*worlds: World, permissions: tuple[str, ...] = tuple(BOXES), name: str = "meera") -> Client:
    """Signs in a user with these permissions and access to the worlds' orgs."""
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    OrgAccess.objects.bulk_create(OrgAccess(user=user, org=world.org) for world in worlds)
    client = Client()
    client.force_login(user)
    return client


def home(client: Client, **chosen: Any) -> Any:
    response = client.get("/admin/", chosen)
    assert response.status_code == 200
    return response


def make_reversal(world: World, at: Any, amount: object, *, expired: object = 0) -> Reversal:
    """Creates a reversal at that time."""
    redemption = redeemed(world, amount)
    return Reversal.objects.create(
        org=world.org,
        redemption=redemption,
        customer=redemption.customer,
        public_id=f"{Reversal.objects.count():06}",
        points=points(amount),
        points_available=points(amount) - points(expired),
        points_expired=points(expired),
        has_key=False,
        channel="API",
        made_by="till.1",
        created_at=at,
    )


def refused(world: World, at: Any, rule: str, **options: Any) -> None:
    Attempt.objects.create(org=world.org, created_at=at, channel="API", made_by="till.1", rule=rule, **options)


def total(day: str, rule: str, count: int, amount: str = "0", expired: str = "0") -> Total:
    return Total(utc(day).date(), rule, count, points(amount), points(expired))


def make_approval(world: World, **options: Any) -> Approval:
    given = {"asked_by": "ravi", "asked_at": days_ago(1), "lapses_at": in_days(6)} | options
    redemption = redeemed(world)
    return Approval.objects.create(
        org=world.org,
        redemption=redemption,
        points=10,
        key=redemption.public_id,
        channel="ADMIN",
        reason="Returned.",
        **given,
    )


def test_totals_count_each_day_by_outcome(world: World) -> None:
    foreign = make_world()
    for of, amount in ((world, "4.5"), (world, "2"), (foreign, "1000")):
        make_reversal(of, utc("2026-05-08 23:59:59.999999"), amount, expired=1)
    make_reversal(world, NOW, "0.125")
    make_reversal(world, utc("2026-05-07 23:59:59"), 9)
    refused(world, utc("2026-05-09 00:00"), "NOT_FOUND")
    refused(world, utc("2026-05-09 00:00"), "NOT_FOUND")
    refused(world, NOW, "MORE_THAN_LEFT")
    refused(world, NOW, "MORE_THAN_LEFT", is_dry_run=True)
    refused(world, NOW, "MORE_THAN_AVAILABLE", operation="REDEEM")
    expected = [
        total("2026-05-08", "", 2, "6.5", "2"),
        total("2026-05-09", "", 0),
        total("2026-05-09", "NOT_FOUND", 2),
        total("2026-05-10", "", 1, "0.125"),
        total("2026-05-10", "MORE_THAN_LEFT", 1),
    ]
    for _ in range(2):
        assert sorted(totals_of([world.org.id], days=3, now=NOW)) == expected
    assert DayTotals.objects.filter(org=world.org).count() == 3


def test_totals_of_a_closed_day_are_stored_and_today_is_recounted(world: World) -> None:
    totals_of([world.org.id], days=2, now=NOW)
    make_reversal(world, utc("2026-05-09 12:00"), 5)
    make_reversal(world, NOW, 7)
    expected = [total("2026-05-09", "", 0), total("2026-05-10", "", 1, "7")]
    assert sorted(totals_of([world.org.id], days=2, now=NOW)) == expected


def test_day_closes_ten_minutes_after_its_end(world: World) -> None:
    midnight = utc("2026-05-10 00:00")
    totals_of([world.org.id], days=2, now=midnight + timedelta(minutes=9))
    assert not DayTotals.objects.filter(org=world.org).exists()
    make_reversal(world, utc("2026-05-09 23:59"), 5)
    counted = totals_of([world.org.id], days=2, now=midnight + timedelta(minutes=10))
    assert sorted(counted) == [total("2026-05-09", "", 1, "5"), total("2026-05-10", "", 0)]
    assert DayTotals.objects.filter(org=world.org).count() == 1


def test_days_between_stored_days_are_counted(world: World) -> None:
    make_reversal(world, utc("2026-05-05 12:00"), 5)
    totals_of([world.org.id], days=3, now=NOW)
    totals_of([world.org.id], days=3, now=utc("2026-05-04 12:00"))
    counted = totals_of([world.org.id], days=9, now=NOW)
    assert [(each.day.day, each.count) for each in sorted(counted)] == [(day, int(day == 5)) for day in range(2, 11)]
    assert DayTotals.objects.filter(org=world.org).count() == 8


def test_totals_without_orgs_take_no_query(world: World, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert totals_of([], days=7, now=NOW) == []


def test_closed_day_counted_concurrently_is_stored_once(committed: None, on_postgresql: None) -> None:
    world = make_world()
    make_reversal(world, utc("2026-05-09 12:00"), 5)
    refused(world, utc("2026-05-09 12:00"), "NOT_FOUND")
    start, counted = threading.Barrier(4), []

    def count() -> None:
        start.wait()
        counted.append(sorted(totals_of([world.org.id], days=30, now=NOW)))
        connections.close_all()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 4
    assert all(each == counted[0] for each in counted)
    assert DayTotals.objects.filter(org=world.org).count() == 30


def test_number_of_queries_does_not_depend_on_orgs_or_days(world: World) -> None:
    others = [make_world() for _ in range(3)]
    few, many = client_for(world, others[0]), client_for(world, *others, name="ravi")

    def queries(client: Client, days: int) -> int:
        home(client, days=days)
        with CaptureQueriesContext(connections["default"]) as captured:
            home(client, days=days)
        return len(captured)

    assert queries(few, 7) == queries(many, 90) == queries(many, 7)


def test_home_shows_the_totals_of_the_period(world: World) -> None:
    make_reversal(world, days_ago(3), 30, expired=10)
    make_reversal(world, days_ago(8), 10)
    world.reverse(redeemed(world, 10), 30)
    shown = home(client_for(world), days=7).context
    box = shown["reversals"]
    assert (box["count"], box["points"], box["points_expired"], box["expired_share"]) == (1, 30, 10, Decimal("33.3"))
    assert len(box["days"]) == 7
    assert [(each.code, each.rule, each.count, each.share) for each in shown["refusals"]] == [
        (817, "more than left", 1, 100)
    ]
    assert home(client_for(world, name="ravi")).context["reversals"]["count"] == 2


@pytest.fixture
def approver(world: World) -> Client:
    return client_for(world, permissions=("view_approval", "decide_approval", "view_redemption"))


def test_inbox_opens_the_oldest_request_and_decides_in_place(world: World, approver: Client) -> None:
    old, new = make_approval(world, asked_at=days_ago(3)), make_approval(world)
    make_approval(world, asked_by="meera")
    make_approval(make_world())
    page = home(approver)
    waiting = page.context["waiting"]
    assert ([line.approval for line in waiting["lines"]], waiting["open"].approval) == ([old, new], old)
    assert [line.is_old for line in waiting["lines"]] == [True, False]
    assert "Effect of approving now, lot by lot" in page.content.decode()
    assert f"?request={new.pk}" in page.content.decode()
    assert home(approver, request=new.pk).context["waiting"]["open"].approval == new
    assert not Attempt.objects.filter(org=world.org).exists()

    decide = {"page": "home", "decision": "reject", "comment": ""}
    refused = approver.post(f"/admin/reversals/approval/{old.pk}/decide/", decide, follow=True)
    assert "Not rejected. A rejection needs a comment" in refused.content.decode()
    decide |= {"decision": "approve", "comment": "receipt seen"}
    decided = approver.post(f"/admin/reversals/approval/{old.pk}/decide/", decide, follow=True)
    assert decided.context["waiting"]["open"].approval == new
    assert "Approved. The reversal of 10 points was made." in decided.content.decode()


def test_badge_counts_what_waits_and_costs_others_no_query(
    world: World, approver: Client, count_queries: Callable[[Callable[[], object]], int]
) -> None:
    other = client_for(world, permissions=("view_approval", "view_redemption"), name="ravi")

    def cost(client: Client) -> int:
        return count_queries(lambda: client.get("/admin/loyalty/redemption/"))

    assert cost(approver) == cost(other) + 1
    for _ in range(2):
        make_approval(world)
    for client, badges in ((approver, ["2"]), (other, [])):
        shown = client.get("/admin/loyalty/redemption/").context["sidebar_navigation"]
        assert [item["badge"] for item in shown[0]["items"] if "badge" in item] == badges


def test_user_sees_the_outcome_of_own_requests_with_comment(world: World) -> None:
    make_approval(world, asked_by="meera")
    decided = {"status": "REJECTED", "decided_by": "asha", "decided_at": days_ago(0.5), "comment": "No receipt."}
    make_approval(world, asked_by="meera", asked_at=days_ago(2), **decided)
    make_approval(world, asked_by="meera", asked_at=days_ago(31))
    make_approval(world)
    page = home(client_for(world, permissions=("view_approval", "add_reversal")))
    assert [status.text for _, status, _ in page.context["own_requests"]] == ["waiting", "rejected"]
    assert "Rejected by asha: “No receipt.”" in page.content.decode()


def test_inbox_shows_bulk_runs_with_rows_left_resting_webhooks_and_broken_checks(world: World) -> None:
    foreign = make_world()
    for of in (world, foreign):
        run = runs.start_from_redemptions(
            org=of.org, key="page-1", redemptions=[redeemed(of), redeemed(of)], reason="why", made_by="ravi"
        )
        Webhook.objects.filter(id=make_webhook(of.org).id).update(rests_until=in_days(1), rest_reason="FAILING")
        LedgerCheck.objects.create(org=of.org, started_at=days_ago(1), finished_at=days_ago(1), broken_count=2)
    run.rows.update(status="INVALID")
    sees = ("add_bulkrun", "view_bulkrun", "view_webhook", "view_ledgercheck")
    page = home(client_for(world, permissions=sees))
    assert [(each.org, each.left) for each in page.context["runs"]] == [(world.org, 2)]
    shown = [(alarm.label.text, alarm.text) for alarm in page.context["alarms"]]
    assert [label for label, _ in shown] == ["errors found", "rests"]
    assert shown[0][1] == "2 rows break a law of the ledger"
    assert "the receiver answers with errors" in shown[1][1]


def test_every_number_bar_and_refusal_leads_to_its_filtered_list(world: World) -> None:
    make_reversal(world, days_ago(3), 30, expired=10)
    make_reversal(world, days_ago(40), 5)
    refused(world, days_ago(3), "NOT_FOUND", code=804)
    refused(world, days_ago(40), "NOT_FOUND", code=804)
    client = client_for(world)
    shown = home(client).context
    numbers, day = shown["reversals"], shown["reversals"]["days"][-4]
    bar = numbers["charts"][0]["chart"].bars[-4]
    assert bar.address == day.address
    for address, count in ((numbers["address"], 1), (day.address, 1), (shown["refusals"][0].address, 1)):
        listed = client.get(address)
        assert (listed.status_code, len(listed.context["cl"].result_list)) == (200, count), address
    assert not client.get(numbers["days"][-3].address).context["cl"].result_list
    several = home(client_for(world, make_world(), name="ravi")).context
    assert several["reversals"]["address"] == several["refusals"][0].address == "#orgs"
    [first, second] = several["by_org"]
    assert (first.org, first.count, first.points, first.refused, second.count) == (world.org, 1, 30, 1, 0)
    for address in (first.address, first.refused_address):
        assert len(client.get(address).context["cl"].result_list) == 1


def test_lapsed_approval_requests_are_not_counted_as_waiting(world: World) -> None:
    make_approval(world)
    make_approval(world, lapses_at=days_ago(0.1))
    make_approval(make_world())
    assert home(client_for(world)).context["approvals"] == {"count": 1, "orgs": [(world.org, 1)]}


def test_home_shows_corrections_of_the_period(world: World) -> None:
    reversal, approval = make_reversal(world, days_ago(1), 5), make_approval(world)
    Correction.objects.create(
        org=world.org,
        reversal=reversal,
        approval=approval,
        points=5,
        made_by="ravi",
        approved_by="meera",
        reason="Wrong customer.",
        created_at=days_ago(1),
    )
    page = home(client_for(world, permissions=(*BOXES, "view_correction")))
    assert page.context["corrections"] == {"count": 1, "points": 5}
    assert "1 correction</a> took back 5 points" in page.content.decode()


def test_home_lists_orgs_that_are_off_or_paused_or_have_a_broken_setting(world: World) -> None:
    off, paused, broken, partly, foreign = [make_world() for _ in range(5)]
    set_value(off.org, ON, "no")
    set_value(foreign.org, ON, "no")
    set_value(paused.org, "Reversal_paused", "yes")
    set_value(broken.org, "Reversal_window_days", "many")
    set_value(partly.org, ON, "no")
    set_value(partly.org, ON, "yes", program=partly.program)
    worlds = (world, off, paused, broken, partly)
    page = home(client_for(*worlds, permissions=("view_emfsetting",)))
    expected = [(str(off.org), "off"), (str(paused.org), "paused"), (str(broken.org), "a setting is broken")]
    assert [(alarm.name, alarm.label.text) for alarm in page.context["alarms"]] == expected
    assert f"/admin/loyalty/org/{off.org.id}/emf/" in page.content.decode()
    assert str(foreign.org) not in page.content.decode()
    of_operator = home(client_for(*worlds, permissions=("add_reversal",), name="ravi")).context["alarms"]
    assert [(alarm.name, alarm.address) for alarm in of_operator] == [(name, "") for name, _ in expected]


def test_home_shows_the_last_check_of_the_ledger_or_of_the_chosen_org(world: World) -> None:
    other = make_world()
    client = client_for(world, other)
    assert home(client).context["check"] == {"last": None, "under_way": None, "is_due": True}
    whole = LedgerCheck.objects.create(started_at=days_ago(8), finished_at=days_ago(8), broken_count=0)
    own = LedgerCheck.objects.create(org=world.org, started_at=days_ago(1), finished_at=days_ago(1), broken_count=2)
    assert home(client).context["check"] == {"last": whole, "under_way": None, "is_due": True}
    page = home(client, org=world.org.id)
    assert page.context["check"] == {"last": own, "under_way": None, "is_due": False}
    assert "2 rows break a law of the ledger" in page.content.decode()


@pytest.mark.parametrize(("permission", "box"), BOXES.items())
def test_each_box_is_shown_only_with_its_permission(world: World, permission: str, box: str) -> None:
    shown = home(client_for(world, permissions=(permission,))).context
    assert {each for each in BOXES.values() if shown.get(each)} <= {box}
    assert shown.get(box) is not None


def test_home_shows_all_orgs_until_one_is_chosen_in_the_header(world: World) -> None:
    other = make_world()
    make_reversal(world, timezone.now(), 5)
    make_reversal(other, timezone.now(), 7)
    client = client_for(world, other)

    def points_shown(**parameters: object) -> Decimal:
        page = home(client, **parameters)
        assert page.content.decode().count('aria-current="true">All orgs</button>') == (not parameters)
        return Decimal(page.context["reversals"]["points"])

    assert (points_shown(), points_shown(org=other.org.id), points_shown()) == (12, 7, 12)
    client.post("/admin/choose-org/", {"org": other.org.id})
    assert home(client).context["reversals"]["points"] == 7
    client.post("/admin/choose-org/", {"org": "all"})
    assert points_shown() == 12


@pytest.mark.parametrize(
    "chosen", [{"org": "1"}, {"org": "x"}, {"days": "8"}, {"days": "\x00"}, {"without": "x"}, {"request": "\x00"}]
)
def test_invalid_choice_is_ignored(world: World, chosen: dict[str, str]) -> None:
    make_reversal(world, timezone.now(), 5)
    page = home(client_for(world), **chosen)
    assert page.context["reversals"]["points"] == 5
    assert page.context["period"].days == 30


def test_foreign_org_cannot_be_chosen(world: World) -> None:
    foreign = make_world()
    make_reversal(foreign, timezone.now(), 5)
    page = home(client_for(world), org=foreign.org.id)
    assert page.context["reversals"]["points"] == 0
    assert str(foreign.org) not in page.content.decode()


def test_user_without_org_or_role_sees_whom_to_ask_by_name(world: World) -> None:
    User.objects.create_superuser("root", first_name="Asha", last_name="Rao")
    User.objects.create_superuser("gone", is_active=False)
    for client in (client_for(), client_for(world, permissions=(), name="ravi")):
        page = home(client).content.decode()
        assert "You have no role yet" in page
        assert "<strong>Asha Rao</strong>" in page


def test_markup_in_the_name_of_an_org_is_escaped(world: World) -> None:
    world.org.name = "<script>alert(1)</script>"
    world.org.save()
    set_value(world.org, ON, "no")
    page = home(client_for(world)).content.decode()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_refusals_by_a_removed_rule_are_still_counted(world: World) -> None:
    for rule in ("NOT_FOUND", "NOT_FOUND", "NOT_FOUND", "GONE_RULE"):
        refused(world, days_ago(1), rule)
    page = home(client_for(world))
    assert [(each.code, each.message, each.rule, each.count, each.share) for each in page.context["refusals"]] == [
        (804, ErrorCode.NOT_FOUND.message, "not found", 3, 75),
        (None, "no longer in use", "gone rule", 1, 25),
    ]
    assert "no longer in use (gone rule)" in page.content.decode()


def test_home_with_its_styles_scripts_and_fonts_weighs_less_than_500_kb(world: World) -> None:
    client = client_for(world)

    def loaded(address: str) -> bytes:
        response = client.get(address, headers={"accept-encoding": "gzip"})
        assert response.status_code == 200, address
        return b"".join(response) if response.streaming else bytes(response.content)  # type: ignore[arg-type]

    addresses = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', home(client).content.decode()))
    for style in [address for address in addresses if address.endswith(".css")]:
        text = gzip.decompress(loaded(style)).decode()
        addresses |= {urljoin(style, font) for font in re.findall(r'url\("?([^")]+\.woff2)"?\)', text)}
    assert any(address.endswith(".woff2") for address in addresses)
    assert sum(len(loaded(address)) for address in {"/admin/", *addresses}) < 500_000
