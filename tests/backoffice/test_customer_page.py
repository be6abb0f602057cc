"""The customer page: identifiers, balances and timeline, and staff's changes of lock and status."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from loyalty.models import (
    Customer,
    CustomerGroup,
    GroupMember,
    Lot,
    OrgAccess,
    Program,
    Redemption,
    StaffChange,
)
from reversals.admin import html
from reversals.models import Approval, Attempt, Correction, Reversal
from tests.builders import (
    ON,
    World,
    days_ago,
    in_days,
    make_customer,
    make_lot,
    make_small_lots,
    make_world,
    redeem,
    redeemed,
    set_value,
    staff_of,
)

pytestmark = pytest.mark.django_db

XSS = "<script>alert(1)</script>"
TABS = ("overview", "lots", "redemptions", "activity")


@pytest.fixture
def operator(world: World) -> Client:
    return staff_of(world, "Reversal operator")


def page(client: Client, customer: Customer, tab: str = "overview", **filters: Any) -> HttpResponse:
    return client.get(reverse("admin:loyalty_customer_change", args=[customer.pk]), {"tab": tab} | filters)


def text_of(client: Client, customer: Customer, tab: str = "overview", **filters: Any) -> str:
    response = page(client, customer, tab, **filters)
    assert response.status_code == 200
    return response.content.decode()


def send(client: Client, customer: Customer, step: str, **values: Any) -> HttpResponse:
    return client.post(reverse(f"admin:loyalty_customer_{step}", args=[customer.pk]), values, follow=True)


def changes_of(customer: Customer) -> list[StaffChange]:
    return list(StaffChange.objects.filter(subject="loyalty.customer", subject_id=str(customer.pk)).order_by("id"))


def asha_of(world: World) -> Customer:
    return Customer.objects.get(pk=world.asha.pk)


# What it shows


def test_identifiers_are_shown_in_full_to_users_with_permission(world: World, operator: Client) -> None:
    customer = make_customer(world.org, identifiers={"MOBILE": "9876543210", "EMAIL": "ravi@shop.example"})
    text = text_of(operator, customer)
    for value in ("ravi@shop.example", "919876543210"):
        assert f'data-copy="{value}"' in text
    assert f"identifiers/?identifier={customer.identifiers.get(type='EMAIL').pk}" in text


def test_identifiers_are_masked_for_support(world: World) -> None:
    customer = make_customer(world.org, identifiers={"MOBILE": "9876543210", "EMAIL": "ravi@shop.example"})
    support = staff_of(world, "Support")
    text = text_of(support, customer)
    assert "********3210" in text
    assert "919876543210" not in text
    assert "ravi@shop" not in text
    assert re.findall('data-copy="([^"]+)"', text) == [str(customer.public_id)]
    assert "Change or remove" not in text


def test_balances_are_shown_by_program_and_by_month_of_expiry(world: World, operator: Client) -> None:
    first, second = datetime(2099, 1, 31, tzinfo=UTC), datetime(2099, 2, 1, tzinfo=UTC)
    other = Program.objects.create(org=world.org, public_id=2, name="Other")
    for points, expires_at, program in (
        *((10, first, world.program), ("2.5", first, other), (7, second, world.program)),
        *((4, None, world.program), (3, days_ago(1), world.program)),
    ):
        make_lot(world.asha, points, program=program, expires_at=expires_at)
    make_lot(world.asha, 99, program=world.program, awarded_at=in_days(1))
    shown = page(operator, world.asha).context
    assert shown["balances"] == [
        ("Available", "23.5 points"),
        ("Expired, not spent", "3 points"),
        ("Next expiry", "2099-01-31 00:00:00 UTC"),
    ]
    rows = [(each[0], *each[1:3]) for each in shown["by_program"]["rows"]]
    assert sorted(rows) == sorted([(world.program.name, "21", "3"), ("Other", "2.5", "0")])
    assert [(name, points) for name, points, _ in shown["by_expiry"]["rows"]] == [
        ("January 2099", "12.5"),
        ("February 2099", "7"),
        ("never", "4"),
    ]
    assert 'class="available" x="0.00%" width="100.00%"' in shown["by_expiry"]["rows"][0][2]


def test_expiries_after_twelve_months_are_shown_as_one_row(world: World, operator: Client) -> None:
    for month in range(15):
        make_lot(
            world.asha, 1, program=world.program, expires_at=datetime(2098 + month // 12, month % 12 + 1, 2, tzinfo=UTC)
        )
    rows = page(operator, world.asha).context["by_expiry"]["rows"]
    assert (len(rows), rows[-1][:2]) == (13, ["later", "3"])


def test_a_customer_without_points_or_activity_has_a_page(world: World, operator: Client) -> None:
    shown = page(operator, world.asha).context
    nothing = [("Available", "0 points"), ("Expired, not spent", "0 points"), ("Next expiry", "none")]
    assert (shown["balances"], shown["identifiers"]["rows"]) == (nothing, [])
    for tab in ("lots", "redemptions", "activity"):
        assert page(operator, world.asha, tab).context["table"]["rows"] == []


def test_tabs_show_their_counts_and_only_what_the_user_may_see(world: World, operator: Client) -> None:
    redemption = redeemed(world, 10)
    world.reverse(redemption, 4)
    titles = [tab["title"] for tab in page(operator, world.asha).context["tabs"]]
    assert titles == ["Overview", "Lots (1)", "Redemptions (1)", "Activity (3)"]
    viewer = User.objects.create_user("vik", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_customer"))
    OrgAccess.objects.create(user=viewer, org=world.org)
    client = Client()
    client.force_login(viewer)
    shown = page(client, world.asha, "lots").context
    assert [tab["title"] for tab in shown["tabs"]] == ["Overview", "Activity (0)"]
    assert shown["tab"] == "overview"


def test_count_of_a_tab_stops_after_a_thousand(monkeypatch: pytest.MonkeyPatch, world: World, operator: Client) -> None:
    monkeypatch.setattr(html, "COUNTED_UP_TO", 2)
    make_small_lots(world, 3)
    assert page(operator, world.asha).context["tabs"][1]["title"] == "Lots (more than 2)"


def test_lots_are_filtered_ordered_and_shown_page_by_page(world: World, operator: Client) -> None:
    other = Program.objects.create(org=world.org, public_id=2, name="Other")
    late = make_lot(world.asha, 5, program=world.program, expires_at=in_days(90))
    soon = make_lot(world.asha, 5, program=other, expires_at=in_days(9))
    expired = make_lot(world.asha, 5, program=world.program, expires_at=days_ago(1))
    spent = make_lot(world.asha, 5, program=world.program)
    Lot.objects.filter(pk=spent.pk).update(points_remaining=0)

    def found(**filters: str) -> list[str]:
        rows = page(operator, world.asha, "lots", **filters).context["table"]["rows"]
        return [re.search(">([^<]+)</a>", row[0])[1] for row in rows]  # type: ignore[index]

    assert found(status="available", order="expiry") == [soon.lot_ref, late.lot_ref]
    assert found(status="spent") == [spent.lot_ref]
    assert found(status="expired") == [expired.lot_ref]
    assert found(program="2") == [soon.lot_ref]
    for odd in ("x", "-1", "0", "9" * 30, "\0", "٣"):
        assert found(status=odd, program=odd, order=odd, p=odd) in ([], found())
    make_small_lots(world, 50)
    text = text_of(operator, world.asha, "lots", status="available")
    assert "tab=lots&amp;status=available&amp;p=2" in text
    assert "Previous" not in text
    assert len(found(status="available", p="2")) == 2


def test_redemptions_have_a_link_that_reverses_them_for_whoever_may(world: World, operator: Client) -> None:
    opened, partly, done = redeemed(world, 10), redeemed(world, 10), redeemed(world, 10)
    world.reverse(partly, 4)
    world.reverse(done, 10)

    def found(**filters: str) -> list[str]:
        rows = page(operator, world.asha, "redemptions", **filters).context["table"]["rows"]
        return [re.search(">([^<]+)</a>", row[0])[1] for row in rows]  # type: ignore[index]

    text = text_of(operator, world.asha, "redemptions")
    assert text.count(">Reverse 10 points</a>") == text.count(">Reverse 6 points</a>") == 1
    assert reverse("admin:loyalty_redemption_reverse", args=[opened.pk]) in text
    assert [found(status=each) for each in ("open", "partly", "reversed", "waiting")] == [
        [opened.public_id],
        [partly.public_id],
        [done.public_id],
        [],
    ]
    assert "Reverse 10 points" not in text_of(staff_of(world, "Support", username="sana"), world.asha, "redemptions")
    set_value(world.org, ON, "no")
    text = text_of(operator, world.asha, "redemptions")
    assert text.count('role="status"') == 1
    assert ("Reverse 10 points" in text, text.count("not possible now")) == (False, 2)


def test_the_page_shows_the_group(world: World, operator: Client) -> None:
    group = CustomerGroup.objects.create(org=world.org, public_id=7, name="Family")
    GroupMember.objects.create(org=world.org, group=group, customer=world.asha, joined_at=days_ago(1))
    assert "Family (7)" in text_of(operator, world.asha)


def make_history(world: World) -> Redemption:
    """Creates one timeline entry of each kind for Asha."""
    redemption = redeemed(world, 10, at=days_ago(9))
    world.reverse(redemption, 4)
    world.reverse(redemption, 99)
    reversal = Reversal.objects.get(org=world.org)
    asked = {"org": world.org, "redemption": redemption, "channel": "ADMIN", "reason": "wrong", "points": 4}
    times = {"asked_at": timezone.now(), "lapses_at": in_days(1)}
    decided = {"decided_by": "ravi", "decided_at": timezone.now(), "status": "APPROVED"}
    done = Approval.objects.create(key="a", asked_by="meera", corrects=reversal, **asked, **times, **decided)
    Approval.objects.create(key="b", asked_by="meera", **asked, **times)
    Correction.objects.create(
        org=world.org,
        reversal=reversal,
        approval=done,
        points=4,
        made_by="meera",
        approved_by="ravi",
        reason="wrong customer",
        created_at=timezone.now() + timedelta(seconds=1),
    )
    return redemption


def test_the_timeline_holds_every_kind_newest_first(world: World, operator: Client) -> None:
    redemption = make_history(world)
    rows = page(operator, world.asha, "activity").context["table"]["rows"]
    assert [(row[1], row[3]) for row in rows] == [
        ("Reversal corrected", "-4"),
        ("Waiting for approval", ""),
        ("Refused", ""),
        ("Reversed", "+4"),
        ("Redeemed", "-10"),
        ("Awarded", "+10"),
    ]
    links = [re.search(r'href="([^"]+)"', row[2])[1] for row in rows]  # type: ignore[index]
    assert reverse("admin:loyalty_redemption_change", args=[redemption.pk]) in links
    assert all(operator.get(link).status_code == 200 for link in links)
    found = page(operator, world.asha, "activity", kind="reversed").context["table"]["rows"]
    assert [row[1] for row in found] == ["Reversed"]


def test_markup_in_names_and_reasons_is_escaped(world: World, operator: Client) -> None:
    customer = make_customer(world.org, identifiers={"EXTERNAL_ID": XSS})
    send(operator, customer, "lock", reason=XSS)
    lot = make_lot(customer, 5, program=world.program)
    lot.lot_ref = XSS
    lot.save()
    redeem(customer, 5, program=world.program, public_id=XSS)
    Attempt.objects.create(
        org=world.org,
        created_at=timezone.now(),
        channel="API",
        made_by=XSS,
        redemption_id_asked=XSS,
        rule="NOT_FOUND",
        code=804,
        refusal_reason=XSS,
    )
    text = "".join(text_of(operator, customer, tab) for tab in TABS)
    assert XSS not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5


def test_the_number_of_queries_does_not_grow_with_rows(
    world: World, operator: Client, count_queries: Callable[..., int]
) -> None:
    def fill(count: int) -> None:
        make_small_lots(world, count)
        for _ in range(count):
            world.reverse(redeemed(world, 2), 1)

    fill(3)

    def counts() -> list[int]:
        return [count_queries(partial(text_of, operator, world.asha, tab)) for tab in TABS]

    few = counts()
    fill(57)
    assert counts() == few


def test_a_customer_of_another_org_is_not_found(world: World, operator: Client) -> None:
    stranger = make_world().asha
    assert page(operator, stranger).status_code == 302
    for step in ("lock", "unlock", "status"):
        assert send(operator, stranger, step, reason="x", status="FRAUD").status_code == 404
    stranger.refresh_from_db()
    assert (stranger.reversals_locked, stranger.status) == (False, "ACTIVE")


# The lock


def test_locked_reversals_are_refused_until_they_are_unlocked(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    until = (timezone.now() + timedelta(days=2)).replace(second=0, microsecond=0)
    send(operator, world.asha, "lock", until=f"{until:%Y-%m-%dT%H:%M}", reason="Under review.")
    assert world.reverse(redemption, 1).json()["errors"][0]["code"] == 904
    send(operator, world.asha, "unlock", reason="Reviewed.")
    assert world.reverse(redemption, 1).status_code == 200
    locked = {"reversals_locked": True, "reversals_locked_until": until.isoformat()}
    locked["reversals_lock_reason"] = "Under review."
    free = {"reversals_locked": False, "reversals_locked_until": None, "reversals_lock_reason": ""}
    kept = [(each.action, each.before, each.after, each.reason, each.made_by) for each in changes_of(world.asha)]
    assert kept == [
        ("locked reversals", free, locked, "Under review.", "meera"),
        ("unlocked reversals", locked, free, "Reviewed.", "meera"),
    ]


def test_a_lock_without_end_stays_until_it_is_removed(world: World, operator: Client) -> None:
    response = send(operator, world.asha, "lock", until="", reason="Fraud team.")
    assert "are locked until a user unlocks them." in response.content.decode()
    assert asha_of(world).reversals_locked_until is None
    assert "Fraud team." in text_of(operator, world.asha)


@pytest.mark.parametrize(
    ("step", "values", "problem"),
    [
        ("lock", {"until": "2020-01-01T00:00", "reason": "x"}, "expected a time in the future"),
        ("lock", {"until": "soon", "reason": "x"}, "Enter a valid date/time."),
        ("lock", {"until": "", "reason": "  "}, "This field is required."),
        ("unlock", {"reason": "x"}, "The customer has these values already"),
        ("status", {"status": "MERGED", "reason": "x"}, "Select a valid choice."),
        ("status", {"status": "ACTIVE", "reason": "x"}, "The customer has these values already"),
        ("status", {"status": "FRAUD", "reason": ""}, "This field is required."),
    ],
)
def test_an_invalid_change_shows_its_problem_and_changes_nothing(
    world: World, operator: Client, step: str, values: dict[str, str], problem: str
) -> None:
    response = send(operator, world.asha, step, **values)
    assert problem in response.content.decode()
    stored = asha_of(world)
    assert (stored.reversals_locked, stored.status, changes_of(stored)) == (False, "ACTIVE", [])


def test_opening_a_form_changes_nothing(world: World, operator: Client) -> None:
    for step in ("lock", "unlock", "status"):
        response = operator.get(reverse(f"admin:loyalty_customer_{step}", args=[world.asha.pk]))
        assert response.status_code == 200
    assert changes_of(world.asha) == []


# The status


def test_a_status_change_takes_effect_and_is_recorded(world: World, operator: Client) -> None:
    send(operator, world.asha, "status", status="FRAUD", reason="Chargebacks.")
    assert world.reverse(redeemed(world), 1).json()["errors"][0]["code"] == 901
    kept = [(each.action, each.before, each.after, each.reason) for each in changes_of(world.asha)]
    assert kept == [("changed status", {"status": "ACTIVE"}, {"status": "FRAUD"}, "Chargebacks.")]


def test_a_merged_customer_stays_merged(world: World, operator: Client) -> None:
    merged = make_customer(world.org, status="MERGED")
    response = send(operator, merged, "status", status="ACTIVE", reason="x")
    assert "so the status can no longer be changed" in response.content.decode()
    assert "Change status" not in text_of(operator, merged)
    assert changes_of(merged) == []


def test_users_without_permission_cannot_change_a_customer(world: World) -> None:
    support = staff_of(world, "Support")
    for step in ("lock", "unlock", "status"):
        assert send(support, world.asha, step, reason="x", status="FRAUD").status_code == 403
        assert reverse(f"admin:loyalty_customer_{step}", args=[world.asha.pk]) not in text_of(support, world.asha)
    assert changes_of(world.asha) == []


def test_a_change_requires_the_csrf_token(world: World, operator: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="meera"))
    assert send(strict, world.asha, "lock", reason="x").status_code == 403
    assert changes_of(world.asha) == []


def test_operator_merges_a_customer_into_another(world: World, operator: Client) -> None:
    ravi = make_customer(world.org)
    make_lot(ravi, 5, program=world.program)
    shown = send(operator, ravi, "merge", into=world.asha.public_id, ticket="T-1", reason="the same customer twice")
    assert f"Customer {ravi} is merged into customer {world.asha}: 1 lot and 0 redemptions moved." in (
        shown.content.decode()
    )
    assert "Merged into" in text_of(operator, ravi)
    text = text_of(operator, world.asha)
    assert "Customers merged into this one" in text
    assert "the same customer twice (ticket T-1)" in text_of(operator, world.asha, "activity")
    assert "Merge into another customer" not in text_of(operator, ravi)


def test_merge_into_an_unknown_customer_says_what_is_wrong(world: World, operator: Client) -> None:
    shown = send(operator, world.asha, "merge", into=1, ticket="T-1", reason="the same customer twice")
    assert f"Org {world.org.id} has no customer 1." in shown.content.decode()
    assert asha_of(world).status == "ACTIVE"


def test_support_cannot_merge_customers(world: World) -> None:
    support = staff_of(world, "Support")
    assert send(support, world.asha, "merge", into=1, ticket="T-1", reason="why").status_code == 403
    assert "Merge into another customer" not in text_of(support, world.asha)


def test_operator_changes_an_identifier_with_its_history(world: World, operator: Client) -> None:
    customer = make_customer(world.org, identifiers={"EMAIL": "asha@example.com"})
    stored = customer.identifiers.get()
    sent = {"ticket": "T-1", "reason": "the customer moved", "type": "MOBILE"}
    assert "Change identifiers" in text_of(operator, customer)
    send(operator, customer, "identifiers", identifier=stored.id, value="New@Example.com ", **sent)
    send(operator, customer, "identifiers", identifier="", value="098765 43210", **sent)
    assert list(customer.identifiers.order_by("type").values_list("type", "value")) == [
        ("EMAIL", "new@example.com"),
        ("MOBILE", "919876543210"),
    ]
    send(operator, customer, "identifiers", identifier=stored.id, value="", **sent)
    assert list(customer.identifiers.values_list("type", flat=True)) == ["MOBILE"]
    assert len(changes_of(customer)) == 3


def test_identifier_of_another_customer_is_refused_on_the_page(world: World, operator: Client) -> None:
    other = make_customer(world.org, identifiers={"EMAIL": "asha@example.com"})
    sent = {"type": "EMAIL", "value": "asha@example.com", "ticket": "T-1", "reason": "why"}
    shown = send(operator, world.asha, "identifiers", identifier="", **sent)
    assert f"Customer {other} has this EMAIL already" in shown.content.decode()
    assert not world.asha.identifiers.exists()


def test_support_cannot_change_identifiers_or_see_them_in_the_history(world: World, operator: Client) -> None:
    sent = {"type": "EMAIL", "value": "asha@example.com", "ticket": "T-1", "reason": "why", "identifier": ""}
    send(operator, world.asha, "identifiers", **sent)
    support = staff_of(world, "Support", username="sana")
    assert send(support, world.asha, "identifiers", **sent).status_code == 403
    history = support.get(f"/admin/loyalty/customer/{world.asha.pk}/history/")
    assert "asha@example.com" not in history.content.decode()
