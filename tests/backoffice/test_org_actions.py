"""Orgs in the back office: actions on several orgs at once, and adding orgs, programs and reason codes."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from loyalty.models import EmfChange, Org, OrgAccess, Program, ReasonCode, StaffChange
from loyalty.orgs import FIRST_CORRECTION_CODES, FIRST_REASON_CODES, create_org
from tests.builders import BUILT, ON, World, make_world, set_value

pytestmark = pytest.mark.django_db

LIST = "/admin/loyalty/org/"
WHY = {"ticket": "OPS-7", "reason": "Asked by the brand."}


def client_for(*worlds: World, role: str = "Back-end team", name: str = "meera") -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    OrgAccess.objects.bulk_create(OrgAccess(user=user, org=world.org) for world in worlds)
    client = Client()
    client.force_login(user)
    return client


def act(client: Client, action: str, *worlds: World, **values: str) -> Any:
    selected = [world.org.pk for world in worlds]
    return client.post(LIST, {"action": action, "_selected_action": selected} | values, follow=True)


def confirm(client: Client, action: str, *worlds: World, **values: str) -> str:
    return act(client, action, *worlds, confirmed="yes", **(WHY | values)).content.decode()


def changes() -> list[tuple[Any, ...]]:
    rows = EmfChange.objects.exclude(ticket=BUILT).order_by("id")
    return list(rows.values_list("org_id", "key", "old_value", "new_value", "ticket", "reason", "changed_by"))


def test_action_asks_for_confirmation_and_shows_orgs_without_change() -> None:
    on, off = make_world(), make_world()
    set_value(off.org, ON, "no")
    page = act(client_for(on, off), "turn_off", on, off)
    planned = [(each.org, each.before.words, each.is_change) for each in page.context["planned"]]
    assert planned == [(on.org, "yes", True), (off.org, "no", False)]
    assert "no change" in page.content.decode()
    assert changes() == []


def test_confirmed_action_changes_and_records_each_org() -> None:
    first, second, already, foreign = [make_world() for _ in range(4)]
    set_value(already.org, ON, "no")
    page = confirm(client_for(first, second, already), "turn_off", second, first, already, foreign)
    assert f"{ON} is now no for 2 orgs. It was already no for 1 org." in page
    assert changes() == [
        (world.org.id, ON, "yes", "no", "OPS-7", "Asked by the brand.", "meera") for world in (first, second)
    ]


def test_reversals_are_turned_on_for_an_org_without_stored_settings() -> None:
    world = make_world()
    world.org.emfsetting_set.all().delete()
    client = client_for(world)
    assert f"{ON} is already no for all of these orgs." in act(client, "turn_off", world).content.decode()
    confirm(client, "turn_on", world)
    assert [change[1:4] for change in changes()] == [(ON, "", "yes")]


def test_reversals_are_paused_and_the_pause_ended() -> None:
    world = make_world()
    client = client_for(world)
    confirm(client, "pause", world)
    confirm(client, "end_pause", world)
    assert [change[1:4] for change in changes()] == [("Reversal_paused", "", "yes"), ("Reversal_paused", "yes", "no")]


def test_action_shows_and_replaces_an_invalid_stored_value() -> None:
    world = make_world()
    set_value(world.org, ON, "maybe")
    client = client_for(world)
    assert [each.before.words for each in act(client, "turn_on", world).context["planned"]] == ["broken"]
    confirm(client, "turn_on", world)
    assert [change[1:4] for change in changes()] == [(ON, "maybe", "yes")]


def test_action_shows_conflicting_settings() -> None:
    world = make_world()
    set_value(world.org, ON, "no", program=world.program)
    notes = act(client_for(world), "turn_on", world).context["planned"][0].notes
    assert notes == [
        f"For {world.program}: the program's own setting forbids reversals of its redemptions, although the org's "
        "setting is yes."
    ]


@pytest.mark.parametrize("missing", ["ticket", "reason"])
def test_action_without_ticket_or_reason_changes_nothing(missing: str) -> None:
    world = make_world()
    assert "This field is required." in confirm(client_for(world), "turn_off", world, **{missing: " "})
    assert changes() == []


@pytest.mark.parametrize("role", ["Reversal operator", "Approver", "Auditor", "Support"])
def test_user_without_permission_cannot_run_the_action(role: str) -> None:
    world = make_world()
    client = client_for(world, role=role)
    assert 'value="turn_off"' not in client.get(LIST).content.decode()
    confirm(client, "turn_off", world)
    assert changes() == []


def test_action_with_too_long_a_ticket_changes_no_org() -> None:
    first, second = make_world(), make_world()
    page = confirm(client_for(first, second), "turn_off", first, second, ticket="T" * 101)
    assert "at most 100 characters" in page
    assert changes() == []


def test_list_shows_the_state_of_reversals_in_a_constant_number_of_queries() -> None:
    worlds = [make_world() for _ in range(4)]
    set_value(worlds[1].org, "Reversal_paused", "yes")
    set_value(worlds[2].org, ON, "no", program=worlds[2].program)
    set_value(worlds[3].org, "Reversal_limit_days", "never")
    few, many = client_for(worlds[0]), client_for(*worlds, name="ravi")

    def queries(client: Client) -> int:
        client.get(LIST)
        with CaptureQueriesContext(connection) as captured:
            client.get(LIST)
        return len(captured)

    assert queries(few) == queries(many)
    page = many.get(LIST).content.decode()
    assert all(state in page for state in ("on for some programs", "paused", "a setting is broken"))
    assert f"{LIST}{worlds[0].org.pk}/emf/" in page


def test_markup_in_the_name_of_an_org_is_escaped() -> None:
    world = make_world()
    world.org.name = "<script>alert(1)</script>"
    world.org.save()
    client = client_for(world)
    for page in (client.get(LIST), act(client, "turn_off", world), client.get(f"{LIST}{world.org.pk}/change/")):
        assert "<script>alert(1)" not in page.content.decode()
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.content.decode()


def add(client: Client, model: str, **values: Any) -> Any:
    return client.post(f"/admin/loyalty/{model}/add/", values)


def test_new_org_has_reason_codes_and_its_creator_gets_access() -> None:
    client = client_for()
    added = add(client, "org", id=4711, name="Nhà sách", country="VN", v2_enabled="on", is_active="on", reason="New.")
    assert added.status_code == 302
    org = Org.objects.get(id=4711)
    assert OrgAccess.objects.filter(org=org).values_list("user__username", flat=True).get() == "meera"
    assert first_codes(org) == (FIRST_REASON_CODES, FIRST_CORRECTION_CODES)
    kept = StaffChange.objects.filter(org=org).order_by("id").values_list("subject", "action", "made_by", "reason")
    assert list(kept) == [
        ("loyalty.org", "added", "meera", "New."),
        ("loyalty.orgaccess", "added", "meera", "New."),
    ]
    assert client.get(f"{LIST}4711/change/").status_code == 200


def test_org_created_by_a_command_has_reason_codes() -> None:
    org = create_org(org_id=4712, name="Shop", country="IN", v2_enabled=True)
    assert first_codes(org) == (FIRST_REASON_CODES, FIRST_CORRECTION_CODES)


def first_codes(org: Org) -> tuple[dict[str, str], ...]:
    """The codes for reversals and those for corrections, with their meanings."""
    codes = ReasonCode.objects.filter(org=org)
    return tuple(dict(codes.filter(operation=each).values_list("code", "meaning")) for each in ("REVERSE", "CORRECT"))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"id": 0}, "Enter a positive whole number."),
        ({"id": -1}, "greater than or equal to 0"),
        ({"id": "x"}, "Enter a whole number."),
        ({"id": 10**19}, "less than or equal to 9223372036854775807"),
        ({"country": "india"}, "at most 2 characters"),
        ({"country": "in"}, "Two capital letters"),
        ({"name": " "}, "This field is required."),
        ({"reason": ""}, "This field is required."),
    ],
)
def test_invalid_org_is_not_added(values: dict[str, Any], problem: str) -> None:
    page = add(client_for(), "org", **({"id": 4711, "name": "Shop", "country": "IN", "reason": "New."} | values))
    assert page.status_code == 200
    assert problem in page.content.decode()
    assert not Org.objects.filter(id__in=[0, 4711]).exists()


def test_org_id_cannot_be_used_twice(world: World) -> None:
    page = add(client_for(), "org", id=world.org.id, name="Shop", country="IN", reason="New.")
    assert "already exists." in page.content.decode()
    assert Org.objects.get(id=world.org.id).name == world.org.name


def test_program_can_be_added_only_to_an_org_of_the_user(world: World) -> None:
    client, foreign = client_for(world), make_world()
    values = {"public_id": 77, "name": "Gold", "is_active": "on", "reason": "New."}
    assert add(client, "program", org=world.org.id, **values).status_code == 302
    assert "Select a valid choice." in add(client, "program", org=foreign.org.id, **values).content.decode()
    assert "already exists." in add(client, "program", org=world.org.id, **values).content.decode()
    assert "or equal to 1" in add(client, "program", org=world.org.id, **(values | {"public_id": 0})).content.decode()
    assert list(Program.objects.filter(public_id__in=[0, 77]).values_list("org_id", flat=True)) == [world.org.id]


def test_reason_code_is_added_only_in_the_format_of_codes(world: World) -> None:
    client = client_for(world)
    values = {"org": world.org.id, "operation": "REVERSE", "code": "LATE_DELIVERY", "meaning": "It came late."}
    values["reason"] = "Asked."
    assert add(client, "reasoncode", **values).status_code == 302
    assert "already exists." in add(client, "reasoncode", **values).content.decode()
    page = add(client, "reasoncode", **(values | {"code": "late delivery"})).content.decode()
    assert "Capital letters, digits and _" in page
    assert ReasonCode.objects.filter(org=world.org).count() == 1
