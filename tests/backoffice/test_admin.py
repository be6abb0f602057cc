"""The back office as staff use it: turning reversals on and off, read-only rows, and every list."""

import re

import pytest
from django.contrib.admin.sites import site
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from loyalty.models import EmfSetting
from tests.builders import ON, World, changes_of, redeemed

pytestmark = pytest.mark.django_db

READ_ONLY = ["loyalty_emfchange", "loyalty_emfsetting", "reversals_reversal", "reversals_attempt"]


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("meera", password="a long password"))
    return client


def change(staff: Client, world: World, **values: str) -> None:
    address = reverse("admin:org_emf_change", args=[world.org.id, ON])
    response = staff.post(address, {"value": "no", "ticket": "OPS-7", "reason": "Asked by the brand."} | values)
    assert response.status_code == 302, re.findall(r"errorlist[^>]*>(.*?)</ul>", response.content.decode())


def test_reversals_are_turned_off_and_on_with_ticket_and_reason(world: World, staff: Client) -> None:
    redemption = redeemed(world)
    change(staff, world)
    assert world.reverse(redemption, 1).json()["errors"][0]["code"] == 818
    change(staff, world, value="yes", ticket="OPS-8")
    assert world.reverse(redemption, 1).status_code == 200
    history = changes_of(world.org)
    assert list(history.values_list("old_value", "new_value", "ticket", "reason", "changed_by")) == [
        ("yes", "no", "OPS-7", "Asked by the brand.", "meera"),
        ("no", "yes", "OPS-8", "Asked by the brand.", "meera"),
    ]
    assert all(re.fullmatch("[0-9a-f]{32}", change.request_id) for change in history)


@pytest.mark.parametrize("model", READ_ONLY)
def test_read_only_rows_cannot_be_added_changed_or_deleted(world: World, staff: Client, model: str) -> None:
    change(staff, world)
    change(staff, world, value="yes")
    world.reverse(redeemed(world), 1)
    row = site._registry[_model(model)].model.objects.filter(org=world.org).first()
    assert staff.get(reverse(f"admin:{model}_change", args=[row.pk])).status_code == 200
    assert staff.get(reverse(f"admin:{model}_add")).status_code == 403
    assert staff.post(reverse(f"admin:{model}_change", args=[row.pk]), {}).status_code == 403
    assert staff.post(reverse(f"admin:{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


def _model(name: str) -> type:
    return next(model for model in site._registry if model._meta.label_lower.replace(".", "_") == name)


def test_stored_setting_links_to_the_page_that_changes_it(world: World, staff: Client) -> None:
    setting = EmfSetting.objects.get(org=world.org)
    page = reverse("admin:org_emf", args=[world.org.id])
    for address in (
        reverse("admin:loyalty_emfsetting_changelist") + f"?org={world.org.id}",
        reverse("admin:loyalty_emfsetting_change", args=[setting.pk]),
    ):
        assert f'href="{page}"' in staff.get(address).content.decode()


def test_every_list_and_every_row_page_opens(world: World, staff: Client) -> None:
    world.reverse(redeemed(world), 1)
    for model in site._registry:
        name = model._meta.label_lower.replace(".", "_")
        assert staff.get(reverse(f"admin:{name}_changelist"), {"q": "1"}).status_code == 200, name
        row = model._default_manager.first()
        if row is not None:
            assert staff.get(reverse(f"admin:{name}_change", args=[row.pk])).status_code == 200, name
