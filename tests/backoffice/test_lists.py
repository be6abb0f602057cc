"""Lists of the back office: their names, active filters, empty states and values."""

import re

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from loyalty.models import CustomerGroup, Org, OrgAccess
from loyalty.staff.audit import record_change
from tests.builders import World, make_lot, make_org, make_world, redeem, redeemed, staff_of

pytestmark = pytest.mark.django_db

REDEMPTIONS = reverse("admin:loyalty_redemption_changelist")
ATTEMPTS = reverse("admin:reversals_attempt_changelist")


@pytest.fixture
def auditor(world: World) -> Client:
    return staff_of(world, "Auditor")


def text_of(client: Client, address: str, **parameters: object) -> str:
    response = client.get(address, parameters)
    assert response.status_code == 200
    return response.content.decode()


def active_filters(page: str) -> list[str]:
    """Returns the active filters shown above the list."""
    shown = re.search(r'<ul[^>]*aria-label="Active filters">(.*?)</ul>', page, re.DOTALL)
    items = shown.group(1).split("</li>")[:-1] if shown else []
    return [" ".join(re.sub(r"<span class=\"material.*?</span>|<[^>]*>", "", item).split()) for item in items]


def test_list_has_the_same_name_as_in_the_sidebar(world: World) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("meera", password="a long password"))
    for name, title in {"auth_user": "Users", "auth_group": "Roles", "loyalty_staffchange": "Changes"}.items():
        page = text_of(client, reverse(f"admin:{name}_changelist"))
        assert re.search(r"<title>\s*(.*?)</title>", page).group(1) == f"{title} | Loyalty back office"
        assert f"{title}</a>" in re.search(r"<h1.*?</h1>", page, re.DOTALL).group(0)


def test_list_shows_its_active_filters(auditor: Client) -> None:
    assert active_filters(text_of(auditor, ATTEMPTS)) == ["Period: 30 days"]
    page = text_of(auditor, ATTEMPTS, period="7", channel__exact="API")
    assert active_filters(page) == ["Period: 7 days", "Channel: API"]
    assert 'href="?channel__exact=API" aria-label="Remove the filter period: 7 days"' in page
    assert active_filters(text_of(auditor, ATTEMPTS, period="all")) == []


def test_list_shows_the_org_of_the_header_and_offers_no_other(world: World) -> None:
    """The header is the only switcher. An org in the address is shown on that page only."""
    client = Client()
    client.force_login(User.objects.create_superuser("meera", password="a long password"))
    other = make_world()
    mine, theirs = redeemed(world), redeemed(other)
    client.post(reverse("admin:choose_org"), {"org": world.org.id})
    for parameters, shown, hidden in (({}, mine, theirs), ({"org": other.org.id}, theirs, mine), ({}, mine, theirs)):
        response = client.get(REDEMPTIONS, parameters)
        page = response.content.decode()
        assert shown.public_id in page
        assert hidden.public_id not in page
        assert response.context["orgs_for_header"]()["org"] == shown.org
        assert not [name for name in active_filters(page) if name.startswith("Org")]
        assert "By org" not in page


def test_look_up_in_a_link_is_shown_as_an_active_filter(world: World, auditor: Client) -> None:
    redeemed(world)
    page = text_of(auditor, REDEMPTIONS, customer__id__exact=world.asha.pk)
    assert active_filters(page) == [f"Customer: {world.asha}"]


def test_foreign_customer_in_the_address_is_not_shown(world: World, auditor: Client) -> None:
    foreign = make_world()
    make_lot(foreign.asha, 5, program=foreign.program)
    redeem(foreign.asha, 5, program=foreign.program)
    page = text_of(auditor, REDEMPTIONS, customer__id__exact=foreign.asha.pk)
    assert active_filters(page) == ["Customer: not found"]
    assert str(foreign.asha) not in page


def test_empty_list_says_why_it_is_empty(world: World, auditor: Client) -> None:
    assert "This list is still empty." in text_of(auditor, REDEMPTIONS)
    assert "No rows match the active filters." in text_of(auditor, ATTEMPTS, period="7")
    assert "No rows match “<span" in text_of(auditor, REDEMPTIONS, q="nobody")


def test_points_have_no_trailing_zeros_and_booleans_are_yes_or_no(world: World) -> None:
    redeemed(world, "7.5")
    CustomerGroup.objects.create(org=world.org, public_id=1, name="Family")
    operator = staff_of(world, "Reversal operator")
    page = text_of(operator, REDEMPTIONS)
    assert ">7.5</span>" in re.sub(r"\s*<", "<", page)
    groups = text_of(operator, reverse("admin:loyalty_customergroup_changelist"))
    assert re.search(r">\s*yes\s*</span>", groups)


def test_history_of_a_user_shows_the_changed_fields(world: World) -> None:
    superuser = User.objects.create_superuser("meera", password="a long password")
    client = Client()
    client.force_login(superuser)
    record_change(
        superuser, org=None, action="changed", made_by="arun", reason="left", before={}, after={"active": False}
    )
    page = text_of(client, reverse("admin:auth_user_history", args=[superuser.pk]))
    assert "Changed by arun" in page
    assert "<strong>active</strong>: no" in page


def test_history_needs_the_permission_to_read_changes(world: World) -> None:
    address = reverse("admin:loyalty_org_history", args=[world.org.id])
    assert staff_of(world, "Support").get(address).status_code == 403
    assert staff_of(world, "Auditor", username="arun").get(address).status_code == 200
    page = text_of(
        staff_of(world, "Support", username="zoya"), reverse("admin:loyalty_org_change", args=[world.org.id])
    )
    assert address not in page


def test_action_changes_the_selected_rows_only_even_if_the_form_asks_for_all(world: World) -> None:
    other = make_org()
    client = staff_of(world, "Back-end team")
    OrgAccess.objects.create(user=User.objects.get(username="meera"), org=other)
    chosen = {"action": "pause", "_selected_action": [world.org.id], "select_across": "1"}
    page = client.post(reverse("admin:loyalty_org_changelist"), chosen)
    assert [each.org for each in page.context["planned"]] == [world.org]


def test_org_that_got_the_same_id_meanwhile_is_not_overwritten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = staff_of(world, "Back-end team")
    monkeypatch.setattr(Org, "validate_unique", lambda self, exclude=None: None)
    monkeypatch.setattr(Org, "validate_constraints", lambda self, exclude=None: None)
    values = {"id": world.org.id, "name": "Overwritten", "country": "IN", "reason": "a new org", "_save": "Save"}
    with pytest.raises(IntegrityError), transaction.atomic():
        client.post(reverse("admin:loyalty_org_add"), values)
    assert Org.objects.get(id=world.org.id).name == world.org.name
