"""The back office as its staff use it: the switch with ticket and reason, and reversals by hand."""

import re

import pytest
from django.contrib.admin.sites import site
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from loyalty.models import EmfChange, EmfSetting
from tests.builders import ON, World, make_program, make_world, redeemed

pytestmark = pytest.mark.django_db

APPEND_ONLY = ["loyalty_emfchange", "reversals_reversal", "reversals_attempt"]


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("meera", password="a long password"))
    return client


def setting_of(world: World) -> EmfSetting:
    return EmfSetting.objects.get(org=world.org, program=None, key=ON)


def change(staff: Client, setting: EmfSetting, **values: str) -> None:
    address = reverse("admin:loyalty_emfsetting_change", args=[setting.pk])
    response = staff.post(address, {"value": "no", "ticket": "OPS-7", "reason": "Asked by the brand."} | values)
    assert response.status_code == 302, re.findall(r"errorlist[^>]*>(.*?)</ul>", response.content.decode())


def test_the_switch_is_turned_off_and_on_with_ticket_and_reason(world: World, staff: Client) -> None:
    redemption = redeemed(world)
    change(staff, setting_of(world))
    assert world.reverse(redemption, 1).json()["errors"][0]["code"] == 818
    change(staff, setting_of(world), value="yes", ticket="OPS-8")
    assert world.reverse(redemption, 1).status_code == 200
    history = EmfChange.objects.filter(org=world.org).order_by("id")
    assert list(history.values_list("old_value", "new_value", "ticket", "reason", "changed_by")) == [
        ("yes", "no", "OPS-7", "Asked by the brand.", "meera"),
        ("no", "yes", "OPS-8", "Asked by the brand.", "meera"),
    ]
    assert all(re.fullmatch("[0-9a-f]{32}", change.request_id) for change in history)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"ticket": ""}, "This field is required."),
        ({"reason": " "}, "This field is required."),
        ({"value": "maybe"}, "expected yes or no"),
    ],
)
def test_a_change_without_ticket_or_reason_or_sense_is_not_made(
    world: World, staff: Client, values: dict[str, str], problem: str
) -> None:
    setting = setting_of(world)
    address = reverse("admin:loyalty_emfsetting_change", args=[setting.pk])
    response = staff.post(address, {"value": "no", "ticket": "OPS-7", "reason": "Asked."} | values)
    assert response.status_code == 200
    assert problem in response.content.decode()
    assert setting_of(world).value == "yes"
    assert not EmfChange.objects.filter(org=world.org).exists()


def test_a_setting_is_added_and_removed(world: World, staff: Client) -> None:
    values = {"org": world.org.id, "program": "", "key": "Reversal_window_days", "value": "30"}
    added = staff.post(reverse("admin:loyalty_emfsetting_add"), values | {"ticket": "OPS-7", "reason": "Policy."})
    assert added.status_code == 302
    setting = EmfSetting.objects.get(org=world.org, key="Reversal_window_days")
    change(staff, setting, value="")
    assert not EmfSetting.objects.filter(org=world.org, key="Reversal_window_days").exists()


def test_a_setting_cannot_be_added_for_a_program_of_another_org(world: World, staff: Client) -> None:
    foreign = make_program(make_world().org)
    values = {"org": world.org.id, "program": foreign.pk, "key": "Reversal_window_days", "value": "30"}
    response = staff.post(reverse("admin:loyalty_emfsetting_add"), values | {"ticket": "OPS-7", "reason": "Policy."})
    assert "This program is of another org." in response.content.decode()


@pytest.mark.parametrize("model", APPEND_ONLY)
def test_append_only_rows_are_neither_added_nor_changed_nor_deleted(world: World, staff: Client, model: str) -> None:
    change(staff, setting_of(world), value="yes")
    world.reverse(redeemed(world), 1)
    row = site._registry[_model(model)].model.objects.filter(org=world.org).first()
    assert staff.get(reverse(f"admin:{model}_change", args=[row.pk])).status_code == 200
    assert staff.get(reverse(f"admin:{model}_add")).status_code == 403
    assert staff.post(reverse(f"admin:{model}_change", args=[row.pk]), {}).status_code == 403
    assert staff.post(reverse(f"admin:{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


def _model(name: str) -> type:
    return next(model for model in site._registry if model._meta.label_lower.replace(".", "_") == name)


def test_every_list_and_every_row_can_be_looked_at(world: World, staff: Client) -> None:
    world.reverse(redeemed(world), 1)
    for model in site._registry:
        name = model._meta.label_lower.replace(".", "_")
        assert staff.get(reverse(f"admin:{name}_changelist"), {"q": "1"}).status_code == 200, name
        row = model._default_manager.first()
        if row is not None:
            assert staff.get(reverse(f"admin:{name}_change", args=[row.pk])).status_code == 200, name


def test_an_empty_value_is_not_added(world: World, staff: Client) -> None:
    values = {"org": world.org.id, "key": "Reversal_window_days", "value": "", "ticket": "OPS-7", "reason": "Policy."}
    response = staff.post(reverse("admin:loyalty_emfsetting_add"), values)
    assert response.status_code == 200
    assert "there is nothing to remove" in response.content.decode()
    assert not EmfChange.objects.filter(org=world.org).exists()
