"""Find: one search field for all identifiers of redemptions, reversals and customers in the user's orgs."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from time_machine import travel

from loyalty.models import Customer, OrgAccess, Redemption, StaffChange
from reversals.admin import searches
from reversals.models import Reversal
from tests.builders import World, make_customer, make_world, redeemed, staff_of

pytestmark = pytest.mark.django_db

XSS = "<script>alert(1)</script>"


@pytest.fixture
def support(world: World) -> Client:
    return staff_of(world, "Support")


def ask(client: Client, name: object) -> HttpResponse:
    return client.get(reverse("admin:find"), {"q": name})


def page_of(row: Redemption | Reversal | Customer) -> str:
    return reverse(f"admin:{row._meta.label_lower.replace('.', '_')}_change", args=[row.pk])


def give_access(username: str, world: World) -> None:
    OrgAccess.objects.create(user=User.objects.get(username=username), org=world.org)


@pytest.mark.parametrize("name", ["public_id", "external_reference_number", "transaction_number"])
def test_each_identifier_of_a_redemption_redirects_to_its_page(world: World, support: Client, name: str) -> None:
    redemption = redeemed(world, external_reference_number="EXT-77")
    Redemption.objects.filter(pk=redemption.pk).update(transaction_number="TX-77")
    redemption.refresh_from_db()
    response = ask(support, f" {getattr(redemption, name)} ")
    assert (response.status_code, response["Location"]) == (302, page_of(redemption))


def test_reversal_id_redirects_to_the_reversal(world: World, support: Client) -> None:
    world.reverse(redeemed(world), 1)
    reversal = Reversal.objects.get(org=world.org)
    assert ask(support, reversal.public_id)["Location"] == page_of(reversal)


@pytest.mark.parametrize(
    ("kind", "stored", "asked"),
    [
        ("MOBILE", "919876543210", "98765 43210"),
        ("MOBILE", "919876543210", "+91 98765 43210"),
        ("EMAIL", "asha@shop.example", "Asha@Shop.Example"),
        ("EXTERNAL_ID", "E-1", "E-1"),
        ("CARD_NUMBER", "4000123412341234", "4000123412341234"),
        ("CARD_EXTERNAL_ID", "CX9", "CX9"),
    ],
)
def test_each_identifier_of_a_customer_redirects_to_their_page(
    world: World, support: Client, kind: str, stored: str, asked: str
) -> None:
    customer = make_customer(world.org, identifiers={kind: stored})
    assert ask(support, asked)["Location"] == page_of(customer)
    assert ask(support, customer.public_id)["Location"] == page_of(customer)


def test_mobile_number_is_read_with_the_country_of_each_org(world: World, support: Client) -> None:
    vietnam = make_world(country="VN")
    give_access("meera", vietnam)
    customer = make_customer(vietnam.org, identifiers={"MOBILE": "0912345678"})
    assert ask(support, "0912 345 678")["Location"] == page_of(customer)


def test_id_that_exists_in_two_orgs_lists_both_results(world: World, support: Client) -> None:
    other = make_world()
    give_access("meera", other)
    found = [redeemed(each, public_id="TWICE") for each in (world, other)]
    response = ask(support, "TWICE")
    text = response.content.decode()
    assert response.status_code == 200
    assert all(page_of(redemption) in text and str(redemption.org) in text for redemption in found)


def test_identifiers_in_results_are_masked(world: World, support: Client) -> None:
    other = make_world()
    give_access("meera", other)
    for each in (world, other):
        make_customer(each.org, identifiers={"CARD_NUMBER": "4000123412341234"})
    text = ask(support, "4000123412341234").content.decode()
    assert text.count("card number ************1234") == 2


def test_rows_of_a_foreign_org_are_not_found(world: World, support: Client) -> None:
    foreign = make_world()
    redemption = redeemed(foreign, public_id="ELSEWHERE")
    foreign.reverse(redemption, 1)
    customer = make_customer(foreign.org, identifiers={"EMAIL": "far@shop.example"})
    reversal = Reversal.objects.get(org=foreign.org)
    for name in ("ELSEWHERE", reversal.public_id, "far@shop.example", customer.public_id):
        assert "No results" in ask(support, name).content.decode()


@pytest.mark.parametrize("name", ["no-such-thing", "a" * 5000, "9" * 40, "nul\0", "²", XSS])
def test_unknown_or_odd_term_shows_no_results(world: World, support: Client, name: str) -> None:
    response = ask(support, name)
    text = response.content.decode()
    assert response.status_code == 200
    assert "No results" in text
    assert "in 1 org." in text
    assert XSS not in text


def test_empty_search_shows_no_message(world: World, support: Client) -> None:
    redeemed(world)
    text = ask(support, " ").content.decode()
    assert "No results" not in text


def test_search_covers_only_rows_that_the_user_may_view(world: World) -> None:
    redemption = redeemed(world)
    viewer = User.objects.create_user("vik", is_staff=True)
    give_access("vik", world)
    client = Client()
    client.force_login(viewer)
    assert ask(client, redemption.public_id).status_code == 403
    viewer.user_permissions.add(Permission.objects.get(codename="view_customer"))
    assert "No results" in ask(client, redemption.public_id).content.decode()
    assert ask(client, world.asha.public_id)["Location"] == page_of(world.asha)


def test_results_are_limited_to_twenty_of_each_kind(world: World, support: Client) -> None:
    for _ in range(25):
        redeemed(world)
    Redemption.objects.filter(org=world.org).update(transaction_number="MANY")
    assert len(ask(support, "MANY").context["found"]["rows"]) == 20


def test_number_of_queries_does_not_depend_on_the_number_of_orgs(
    world: World, support: Client, django_assert_num_queries: object
) -> None:
    ask(support, "x")
    counts = []
    for _ in range(2):
        with django_assert_num_queries(18, exact=False) as captured:  # type: ignore[operator]
            ask(support, "9876543210")
        counts.append(len(captured))
        for country in ("IN", "VN", "US"):
            give_access("meera", make_world(country=country))
    assert counts[0] == counts[1]


def test_search_field_is_shown_on_the_home_page(world: World, support: Client) -> None:
    assert 'id="find-anywhere"' in support.get(reverse("admin:index")).content.decode()


def searches_of(username: str) -> list[StaffChange]:
    return list(StaffChange.objects.filter(made_by=username, subject="auth.user").order_by("id"))


def test_search_by_identifier_is_recorded_masked(world: World, support: Client) -> None:
    customer = make_customer(world.org, identifiers={"MOBILE": "919876543210"})
    ask(support, "919876543210")
    ask(support, "919876543211")
    ask(support, customer.public_id)
    found, missed = searches_of("meera")
    assert (found.action, found.after) == ("searched", {"text": "********3210", "matched": "mobile"})
    assert (missed.action, missed.after) == ("searched", {"text": "********3211", "matched": "nothing"})
    assert found.org == world.org


def test_user_who_sees_identifiers_masked_cannot_try_many(
    world: World, support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searches, "LIMIT_MASKED", 3)
    customer = make_customer(world.org, identifiers={"MOBILE": "919876543210"})
    assert [ask(support, f"91987654321{digit}").status_code for digit in (3, 2, 1)] == [200, 200, 200]
    refused = ask(support, "919876543210")
    assert refused.status_code == 429
    assert "3 searches by identifier in the last hour" in refused.content.decode()
    assert [change.action for change in searches_of("meera")].count("reached the limit of searches") == 1
    with travel(timezone.now() + timedelta(hours=1, minutes=1)):
        support.force_login(User.objects.get(username="meera"))
        assert ask(support, "919876543210")["Location"] == page_of(customer)


def test_search_by_record_id_is_not_counted(world: World, support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "LIMIT_MASKED", 1)
    redemption = redeemed(world)
    assert [ask(support, redemption.public_id).status_code for _ in range(3)] == [302, 302, 302]
    assert searches_of("meera") == []


def searched(username: str, count: int, *, matched: str = "mobile", days: int = 0) -> None:
    user = User.objects.get(username=username)
    for _ in range(count):
        StaffChange.objects.create(
            subject="auth.user",
            subject_id=str(user.pk),
            subject_name=username,
            action=searches.SEARCHED,
            before={},
            after={"text": "********3210", "matched": matched},
            reason="A search in Find.",
            made_by=username,
            made_at=timezone.now() - timedelta(days=days),
        )


def test_auditor_sees_unusual_searches_first_and_on_the_home_page(world: World, support: Client) -> None:
    staff_of(world, "Support", username="omar")
    auditor = staff_of(world, "Auditor", username="aud")
    searched("omar", 2)
    searched("meera", 19, matched="nothing")
    assert "by identifier on" not in auditor.get(reverse("admin:index")).content.decode()
    searched("meera", 1, matched="nothing", days=3)
    searched("omar", 20, matched="nothing", days=3)
    response = auditor.get(reverse("admin:searches"))
    rows = [row[1:] for row in response.context["searches"]["rows"]]
    assert rows == [
        ["omar", 20, 20, "no", "unusual"],
        ["meera", 19, 19, "no", ""],
        ["omar", 2, 0, "no", ""],
        ["meera", 1, 1, "no", ""],
    ]
    ask(support, "919876543211")
    home = auditor.get(reverse("admin:index")).content.decode()
    assert "20 searches by identifier on" in home
    assert "20 found nothing" in home
    assert "by identifier on" not in support.get(reverse("admin:index")).content.decode()


def test_auditor_reads_the_masked_searches_of_a_day(world: World, support: Client) -> None:
    auditor = staff_of(world, "Auditor", username="aud")
    ask(support, "919876543211")
    user, today = User.objects.get(username="meera"), timezone.now().date()
    address = reverse("admin:searches")
    response = auditor.get(address, {"user": user.pk, "day": today.isoformat()})
    [row] = response.context["searches"]["rows"]
    assert row[1:] == ["meera", "searched", "********3211", "nothing", world.org]
    for odd in ({"user": "x\0", "day": today.isoformat()}, {"day": "2026-02-30"}, {"day": "9999-12-31"}, {"user": "1"}):
        assert auditor.get(address, odd).status_code == 200


def test_searches_of_users_of_other_orgs_are_not_shown(world: World, support: Client) -> None:
    ask(support, "919876543211")
    foreign = staff_of(make_world(), "Auditor", username="aud")
    assert foreign.get(reverse("admin:searches")).context["searches"]["rows"] == []
    chosen_elsewhere = make_world()
    give_access("meera", chosen_elsewhere)
    support.get(reverse("admin:loyalty_customer_changelist"), {"org": chosen_elsewhere.org.id})
    ask(support, "919876543212")
    give_access("aud", world)
    [row] = foreign.get(reverse("admin:searches")).context["searches"]["rows"]
    assert row[1:3] == ["meera", 2]


def test_number_of_queries_of_searches_is_constant(world: World, django_assert_num_queries: object) -> None:
    auditor = staff_of(world, "Auditor", username="aud")
    address, counts = reverse("admin:searches"), []
    auditor.get(address)
    for number in range(2):
        staff_of(world, "Support", username=f"support{number}")
        searched(f"support{number}", 5)
        with django_assert_num_queries(14, exact=False) as captured:  # type: ignore[operator]
            auditor.get(address)
        counts.append(len(captured))
    assert counts[0] == counts[1]
