"""The EMF settings pages of an org: values in force, changes with ticket and reason, and conflicts."""

import re
from html import unescape
from typing import Any

import pytest
from django import forms
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from loyalty.admin.emf_page import value_field
from loyalty.emf import registry as emf
from loyalty.emf.registry import REGISTRY, EmfGroup, EmfSettings
from loyalty.emf.warnings import contradictions
from loyalty.models import EmfSetting, OrgAccess
from tests.builders import ON, World, changes_of, make_program, make_world, set_value

WHY = {"ticket": "OPS-7", "reason": "Asked by the brand."}
ROLE = ("view_emfsetting", "change_emfsetting", "view_emfchange")
PAUSED = "Reversal_paused"


def client_for(world: World, *permissions: str, name: str = "meera") -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    OrgAccess.objects.create(user=user, org=world.org)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def staff(world: World) -> Client:
    return client_for(world, *ROLE)


def address(world: World, key: str = "") -> str:
    return f"/admin/loyalty/org/{world.org.id}/emf/" + (f"{key}/" if key else "")


def text_of(response: Any) -> str:
    """Returns the text of the page without tags."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def save(client: Client, world: World, key: str, value: Any, **values: Any) -> Any:
    return client.post(address(world, key), {"value": value} | WHY | values)


def changes(world: World) -> list[tuple[str, ...]]:
    rows = changes_of(world.org)
    return list(rows.values_list("key", "program__public_id", "old_value", "new_value", "ticket", "changed_by"))


def test_every_key_is_shown_with_its_value_and_source(world: World, staff: Client) -> None:
    set_value(world.org, "Reversal_window_days", "30")
    set_value(world.org, "Reversal_window_days", "10", program=world.program)
    page = staff.get(address(world))
    shown = {each.key.name: each for each in page.context["settings"]}
    assert set(shown) == set(REGISTRY)
    groups = [each.key.group for each in page.context["settings"]]
    assert list(dict.fromkeys(groups)) == list(EmfGroup)
    window = shown["Reversal_window_days"]
    assert (window.value.words, window.value.shown, window.value.source) == ("30", "30 days", "org")
    assert [(each.program, each.words, each.source) for each in window.of_programs] == [
        (world.program, "10", "program")
    ]
    assert (shown["Reversal_limit_days"].value.words, shown["Reversal_limit_days"].value.source) == ("30", "default")
    assert all(key.meaning in text_of(page) for key in REGISTRY.values())


def test_sidebar_page_shows_the_settings_of_the_current_org(world: World, staff: Client) -> None:
    assert staff.get("/admin/emf/").context["org"] == world.org


@pytest.mark.parametrize(("key", "value"), [(ON, "no"), (ON, "yes"), (PAUSED, "yes"), (PAUSED, "no")])
def test_switch_says_what_happens_before_it_is_saved(world: World, staff: Client, key: str, value: str) -> None:
    text = text_of(staff.get(address(world, key), {"value": value}))
    assert REGISTRY[key].effects[value] in text
    assert text.index("From the next call on") < text.index("Save")


def test_invalid_stored_value_is_shown_with_the_expected_values(world: World, staff: Client) -> None:
    set_value(world.org, "Reversal_window_days", "many")
    problem = "'many' of Reversal_window_days is not valid: expected a whole number from 1 to 36500"
    assert problem in text_of(staff.get(address(world)))
    assert problem in text_of(staff.get(address(world, "Reversal_window_days")))
    assert save(staff, world, "Reversal_window_days", "30").status_code == 302
    assert changes(world) == [("Reversal_window_days", None, "many", "30", "OPS-7", "meera")]


@pytest.mark.django_db
@pytest.mark.parametrize("key", REGISTRY.values(), ids=REGISTRY)
def test_form_field_matches_the_type_of_the_key(key: emf.EmfKey[object], world: World, staff: Client) -> None:
    kinds = {emf.points: forms.DecimalField, emf.statuses: forms.MultipleChoiceField}
    expected = forms.IntegerField if isinstance(key.read, emf.Whole) else kinds.get(key.read, forms.ChoiceField)
    field = value_field(key)
    assert type(field) is expected
    assert staff.get(address(world, key.name)).status_code == 200
    if isinstance(key.read, emf.Whole):
        assert (field.min_value, field.max_value) == (key.read.lowest, key.read.highest)


def test_switch_changes_only_with_ticket_and_reason(world: World, staff: Client) -> None:
    link = f"{address(world, ON)}?value=no"
    assert link in staff.get(address(world)).content.decode()
    assert staff.get(link).context["form"]["value"].value() == "no"
    for missing in ("ticket", "reason"):
        page = save(staff, world, ON, "no", **{missing: " "})
        assert page.context["form"].errors == {missing: ["This field is required."]}
    assert changes(world) == []
    assert save(staff, world, ON, "no").status_code == 302
    assert changes(world) == [(ON, None, "yes", "no", "OPS-7", "meera")]
    assert f"{address(world, ON)}?value=yes" in staff.get(address(world)).content.decode()


@pytest.mark.parametrize(
    ("key", "value", "stored"),
    [
        ("Reversal_window_days", "14", "14"),
        ("Reversal_limit_points", "250.50", "250.5"),
        ("Reversal_blocked_statuses", ["FRAUD", "MERGED"], "FRAUD,MERGED"),
        ("Reversal_error_dialect", "engine", "engine"),
    ],
)
def test_value_is_set_and_unset(world: World, staff: Client, key: str, value: Any, stored: str) -> None:
    assert save(staff, world, key, value).status_code == 302
    assert EmfSetting.objects.get(org=world.org, key=key).value == stored
    assert f"{address(world, key)}?program=&amp;value=" in staff.get(address(world)).content.decode()
    assert save(staff, world, key, "" if isinstance(value, str) else []).status_code == 302
    assert not EmfSetting.objects.filter(org=world.org, key=key).exists()
    assert [(old, new) for _, _, old, new, *_ in changes(world)] == [("", stored), (stored, "")]


def test_link_to_a_program_prefills_the_form_and_sets_the_programs_value(world: World, staff: Client) -> None:
    program = str(world.program.public_id)
    form = staff.get(address(world, "Reversal_window_days"), {"program": program}).context["form"]
    assert form["program"].value() == program
    assert save(staff, world, "Reversal_window_days", "14", program=program).status_code == 302
    assert changes(world) == [("Reversal_window_days", world.program.public_id, "", "14", "OPS-7", "meera")]


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("Reversal_window_days", "0", "greater than or equal to 1"),
        ("Reversal_window_days", "1.5", "Enter a whole number."),
        ("Reversal_approval_points", "1.0001", "no more than 3 decimal places"),
        ("Reversal_approval_points", "NaN", "Enter a number."),
        ("Reversal_error_dialect", "loud", "loud is not one of the available choices"),
        ("Reversal_blocked_statuses", ["BORED"], "BORED is not one of the available choices"),
        (ON, "yes", "Nothing would change: the value is already yes."),
        ("Reversal_limit_count", "", "Nothing would change: the setting is already not set."),
    ],
)
def test_invalid_value_is_explained_and_not_saved(
    world: World, staff: Client, key: str, value: Any, problem: str
) -> None:
    page = save(staff, world, key, value)
    assert page.status_code == 200
    assert problem in text_of(page)
    assert changes(world) == []


def test_program_of_another_org_cannot_be_chosen(world: World, staff: Client) -> None:
    foreign = make_program(make_world().org)
    page = save(staff, world, "Reversal_window_days", "14", program=str(foreign.public_id))
    assert "Select a valid choice." in text_of(page)
    assert staff.get(address(world, "Reversal_window_days"), {"program": foreign.public_id}).status_code == 404
    assert changes(world) == []


def test_org_only_setting_cannot_be_set_for_a_program(world: World, staff: Client) -> None:
    assert "program" not in staff.get(address(world, PAUSED)).context["form"].fields
    assert save(staff, world, PAUSED, "yes", program=str(world.program.public_id)).status_code == 302
    assert changes(world) == [(PAUSED, None, "", "yes", "OPS-7", "meera")]


def test_conflict_is_explained_and_saved_only_if_each_sentence_is_ticked(world: World, staff: Client) -> None:
    sentence = "For the org: Reversal_blocked_statuses includes ACTIVE, so active customers are refused with code 901."
    page = save(staff, world, "Reversal_blocked_statuses", ["ACTIVE"])
    assert sentence in text_of(page)
    save(staff, world, "Reversal_blocked_statuses", ["ACTIVE"], anyway=["For the org: another sentence."])
    assert changes(world) == []
    assert save(staff, world, "Reversal_blocked_statuses", ["ACTIVE"], anyway=[sentence]).status_code == 302
    assert changes(world) == [("Reversal_blocked_statuses", None, "", "ACTIVE", "OPS-7", "meera")]
    assert sentence in text_of(staff.get(address(world)))


def test_pausing_reversals_that_are_on_is_not_a_conflict(world: World, staff: Client) -> None:
    assert save(staff, world, PAUSED, "yes").status_code == 302


ORG, GOLD = "For the org: ", "For Gold (7): "


@pytest.mark.parametrize(
    ("stored", "key", "found"),
    [
        ({ON: "yes"}, ON, None),
        ({ON: "yes", PAUSED: "yes"}, ON, f"{ORG}the switch is on, but every reversal is refused"),
        ({ON: "yes", PAUSED: "yes"}, PAUSED, None),
        ({ON: "yes", (7, ON): "no"}, ON, f"{GOLD}the program's own setting forbids reversals"),
        ({ON: "no", (7, ON): "yes"}, ON, f"{GOLD}the program's own setting allows reversals"),
        ({ON: "yes", (7, ON): "yes"}, ON, None),
        ({"Reversal_limit_count": "0"}, "Reversal_limit_count", f"{ORG}Reversal_limit_count is 0"),
        ({"Reversal_limit_points": "0"}, "Reversal_limit_points", f"{ORG}Reversal_limit_points is 0"),
        ({(7, "Reversal_limit_points"): "0"}, "Reversal_limit_points", f"{GOLD}Reversal_limit_points is 0"),
        ({"Reversal_limit_points": "0"}, "Reversal_window_days", None),
        ({"Reversal_limit_days": "10"}, "Reversal_limit_days", f"{ORG}Reversal_limit_days has no effect"),
        ({"Reversal_limit_days": "10", "Reversal_limit_count": "3"}, "Reversal_limit_days", None),
        (
            {"Reversal_duplicate_window_seconds": "2592001"},
            "Reversal_duplicate_window_seconds",
            f"{ORG}Reversal_duplicate_window_seconds is 2592001 seconds, which is longer than",
        ),
        ({"Reversal_duplicate_window_seconds": "2592000"}, "Reversal_duplicate_window_seconds", None),
        ({"Reversal_blocked_statuses": "FRAUD,ACTIVE"}, "Reversal_blocked_statuses", f"{ORG}Reversal_blocked_statuses"),
        (
            {"Reversal_approval_points": "500", "Reversal_limit_points": "500"},
            "Reversal_approval_points",
            f"{ORG}Reversal_approval_points is 500 and Reversal_limit_points is 500",
        ),
        ({"Reversal_approval_points": "499.9", "Reversal_limit_points": "500"}, "Reversal_approval_points", None),
        ({"Reversal_window_days": "6"}, "Reversal_window_days", f"{ORG}Reversal_window_days is 6"),
        ({"Reversal_window_days": "7"}, "Reversal_window_days", None),
        ({"Reversal_limit_points": "many"}, "Reversal_limit_points", None),
    ],
)
def test_conflicts_between_settings_are_found(stored: dict[Any, str], key: str, found: str | None) -> None:
    places = {(name if isinstance(name, tuple) else (None, name)): text for name, text in stored.items()}
    sentences = contradictions(EmfSettings(places), {7: "Gold (7)", 8: "Blue (8)"}, key=REGISTRY[key])
    assert len(sentences) == (found is not None)
    assert all(sentence.startswith(found or "") for sentence in sentences)


def test_change_for_one_program_reports_conflicts_of_that_program_only() -> None:
    settings = EmfSettings({(None, ON): "no", (7, ON): "yes", (8, ON): "yes"})
    names = {7: "Gold (7)", 8: "Blue (8)"}
    [sentence] = contradictions(settings, names, key=emf.ALLOW_REVERSAL, program_id=8)
    assert sentence.startswith("For Blue (8): ")


def test_settings_page_shows_the_newest_changes(world: World, staff: Client) -> None:
    for days in range(1, 25):
        save(staff, world, "Reversal_window_days", str(days), anyway=_warnings_for(days))
    page = staff.get(address(world))
    newest = list(page.context["changes"]["newest"])
    assert [change.new_value for change in newest] == [str(days) for days in range(24, 4, -1)]
    assert page.context["changes"]["address"] == f"/admin/loyalty/emfchange/?org={world.org.id}"
    assert staff.get(page.context["changes"]["address"]).status_code == 200


def _warnings_for(days: int) -> list[str]:
    """Returns the warning about a reversal window shorter than the 7 days for approval."""
    settings = EmfSettings({(None, "Reversal_window_days"): str(days)})
    return contradictions(settings, {}, key=emf.WINDOW_DAYS)


def test_list_of_changes_is_filtered_by_org_and_key(world: World, staff: Client) -> None:
    save(staff, world, ON, "no")
    save(staff, world, PAUSED, "yes")
    lists = "/admin/loyalty/emfchange/"
    assert "OPS-7" in text_of(staff.get(lists, {"org": world.org.id, "key": ON}))
    rows = staff.get(lists, {"org": world.org.id, "key": ON}).context["cl"].result_list
    assert {row.key for row in rows} == {ON}


@pytest.mark.parametrize(
    ("permissions", "may_look", "may_change"),
    [(ROLE, True, True), (("view_emfsetting",), True, False), (("view_org", "view_emfchange"), False, False)],
)
def test_viewing_and_changing_settings_need_separate_permissions(
    world: World, permissions: tuple[str, ...], may_look: bool, may_change: bool
) -> None:
    client = client_for(world, *permissions)
    page = client.get(address(world))
    assert page.status_code == (200 if may_look else 403)
    assert (address(world, ON) in page.content.decode()) == may_change
    assert save(client, world, ON, "no").status_code == (302 if may_change else 403)
    assert bool(changes(world)) == may_change


def test_foreign_org_and_unknown_key_are_not_found(world: World, staff: Client) -> None:
    foreign = make_world()
    assert staff.get(address(foreign)).status_code == 404
    assert save(staff, foreign, ON, "no").status_code == 404
    assert save(staff, world, "Reversal_unknown", "no").status_code == 404
    assert staff.get("/admin/loyalty/org/99999999999999999999999/emf/").status_code == 404
    assert changes(foreign) == []


def test_settings_page_takes_a_constant_number_of_queries(world: World, staff: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            staff.get(address(world))
        return len(captured)

    before = queries()
    for program in [make_program(world.org) for _ in range(3)]:
        set_value(world.org, ON, "no", program=program)
        save(staff, world, "Reversal_window_days", str(program.public_id + 10))
    assert queries() == before


def test_markup_in_names_is_escaped(world: World, staff: Client) -> None:
    world.org.name = world.program.name = "<script>alert(1)</script>"
    world.org.save()
    world.program.save()
    set_value(world.org, ON, "no", program=world.program)
    set_value(world.org, "Reversal_window_days", "<script>alert(2)</script>")
    for page in (address(world), address(world, ON), address(world, "Reversal_window_days")):
        content = staff.get(page).content.decode()
        assert "<script>alert(" not in content
        assert "&lt;script&gt;alert(1)" in content
