"""The org switcher in the header: which orgs it offers, what it remembers, and where it leads."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from loyalty.models import OrgAccess
from tests.builders import World, make_world, redeemed, staff_of

pytestmark = pytest.mark.django_db

CHOOSE = "/admin/choose-org/"
LIST = "/admin/loyalty/redemption/"


@pytest.fixture
def other(world: World) -> World:
    return make_world()


@pytest.fixture
def client(world: World, other: World) -> Client:
    client = staff_of(world, "Reversal operator")
    OrgAccess.objects.create(user=User.objects.get(username="meera"), org=other.org)
    return client


def shown(client: Client, address: str = LIST) -> int:
    """Returns the id of the org that the page's header shows."""
    return int(client.get(address).context["orgs_for_header"]()["org"].id)


def test_chosen_org_is_shown_on_every_page_and_after_the_next_sign_in(
    client: Client, world: World, other: World
) -> None:
    assert shown(client) == world.org.id
    response = client.post(CHOOSE, {"org": other.org.id, "next": f"{LIST}?org={world.org.id}&q=x"})
    assert (response.status_code, response["Location"]) == (302, LIST)
    assert shown(client) == shown(client, "/admin/") == other.org.id
    again = Client()
    again.force_login(User.objects.get(username="meera"))
    assert shown(again) == other.org.id


def test_list_shows_rows_of_the_chosen_org_only(client: Client, world: World, other: World) -> None:
    mine, theirs = redeemed(world), redeemed(other)
    client.post(CHOOSE, {"org": other.org.id})
    text = client.get(LIST).content.decode()
    assert theirs.public_id in text
    assert mine.public_id not in text


def test_page_of_a_row_does_not_change_the_org(client: Client, world: World, other: World) -> None:
    client.get(reverse("admin:loyalty_redemption_change", args=[redeemed(other).pk]))
    assert shown(client) == world.org.id


def test_foreign_org_cannot_be_chosen(client: Client, world: World) -> None:
    foreign = make_world()
    for org in (foreign.org.id, "", "1e3", "9" * 30):
        assert client.post(CHOOSE, {"org": org}).status_code == 403
    assert shown(client) == world.org.id
    text = client.get(CHOOSE, {"q": str(foreign.org.id)}).content.decode()
    assert "No org that you work on has this name or id." in text


@pytest.mark.parametrize("address", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_choice_of_an_org_redirects_only_within_the_back_office(client: Client, world: World, address: str) -> None:
    assert client.post(CHOOSE, {"org": world.org.id, "next": address})["Location"] == "/admin/"


def test_search_finds_orgs_by_part_of_the_name_and_by_id(client: Client, other: World) -> None:
    for query in (other.org.name[2:].upper(), str(other.org.id)):
        assert [org.id for org in client.get(CHOOSE, {"q": query}).context["orgs"]] == [other.org.id]


def test_only_the_first_orgs_are_in_the_header(world: World) -> None:
    superuser = User.objects.create_superuser("root", password="a long password")
    client = Client()
    client.force_login(superuser)
    for _ in range(13):
        make_world()
    page = client.get("/admin/")
    assert "Search all orgs" in page.content.decode()
    assert len(page.context["orgs_for_header"]()["orgs"]) == 12


def test_user_without_orgs_has_no_switcher() -> None:
    User.objects.create_user("new", is_staff=True)
    client = Client()
    client.force_login(User.objects.get(username="new"))
    assert "org-switcher" not in client.get("/admin/").content.decode()
