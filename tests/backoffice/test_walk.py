"""Every URL of the back office with every role: who may open it, foreign orgs, and odd input."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.sites import site
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.db import models, transaction
from django.test import Client
from django.urls import URLPattern, reverse

from loyalty.clients.api_clients import create_api_client
from loyalty.emf.stored import set_emf
from loyalty.ledger.groups import set_group
from loyalty.models import Org, ReasonCode
from loyalty.staff.audit import record_change
from loyalty.staff.held_changes import hold_limit
from reversals.admin import large_exports
from reversals.manual.bulk import runs
from reversals.models import LedgerCheck, Reversal
from reversals.roles import ROLES
from tests.builders import World, correct, days_ago, make_task, make_webhook, make_world, redeemed, staff_of

pytestmark = pytest.mark.django_db

NEVER = "never"
SUPERUSER = "superusers only"


@dataclass(frozen=True)
class Rights:
    """The permissions to add and change rows of a model, beside its `view` permission."""

    add: str = NEVER
    change: str = NEVER


MODELS: dict[str, Rights] = {
    "auth.group": Rights(),
    "auth.user": Rights(SUPERUSER, SUPERUSER),
    "django_tasks_database.dbtaskresult": Rights(),
    "loyalty.apiclient": Rights("loyalty.add_apiclient", "loyalty.change_apiclient"),
    "loyalty.customer": Rights(),
    "loyalty.customergroup": Rights(change="loyalty.change_customergroup"),
    "loyalty.emfchange": Rights(),
    "loyalty.emfsetting": Rights(),
    "loyalty.heldchange": Rights(),
    "loyalty.lot": Rights(),
    "loyalty.org": Rights("loyalty.add_org", "loyalty.change_org"),
    "loyalty.program": Rights("loyalty.add_program", "loyalty.change_program"),
    "loyalty.reasoncode": Rights("loyalty.add_reasoncode", "loyalty.change_reasoncode"),
    "loyalty.redemption": Rights(),
    "loyalty.staffchange": Rights(),
    "loyalty.webhook": Rights("loyalty.add_webhook", "loyalty.change_webhook"),
    "reversals.approval": Rights(),
    "reversals.attempt": Rights(),
    "reversals.bulkrun": Rights("reversals.add_bulkrun"),
    "reversals.correction": Rights(),
    "reversals.delivery": Rights(),
    "reversals.event": Rights(),
    "reversals.ledgercheck": Rights(),
    "reversals.reversal": Rights(),
}
# Other pages: the permission that they need, and the model of the row in their URL.
PAGES: dict[str, tuple[str, str | None]] = {
    "exports": ("reversals.export_ledger", None),
    "find": ("loyalty.view_redemption", None),
    "import_ledger": ("loyalty.add_ledgerimport", None),
    "import_ledger_progress": ("loyalty.add_ledgerimport", None),
    "searches": ("loyalty.view_staffchange", None),
    "emf": ("loyalty.view_emfsetting", None),
    "org_emf": ("loyalty.view_emfsetting", "loyalty.org"),
    "org_emf_change": ("loyalty.change_emfsetting", "loyalty.org"),
    "auth_user_reset_second_factor": (SUPERUSER, "auth.user"),
    "auth_user_rights": (SUPERUSER, "auth.user"),
    "auth_user_set_password": (SUPERUSER, "auth.user"),
    "loyalty_apiclient_issue": ("loyalty.change_apiclient", "loyalty.apiclient"),
    "loyalty_apiclient_reinstate": ("loyalty.change_apiclient", "loyalty.apiclient"),
    "loyalty_apiclient_revoke": ("loyalty.change_apiclient", "loyalty.apiclient"),
    "loyalty_apiclient_revoke_secret": ("loyalty.change_apiclient", "loyalty.apiclient"),
    "loyalty_customer_lock": ("loyalty.lock_reversals", "loyalty.customer"),
    "loyalty_customer_identifiers": ("loyalty.change_customeridentifier", "loyalty.customer"),
    "loyalty_customer_merge": ("loyalty.merge_customers", "loyalty.customer"),
    "loyalty_customer_status": ("loyalty.change_customer", "loyalty.customer"),
    "loyalty_customer_unlock": ("loyalty.lock_reversals", "loyalty.customer"),
    "loyalty_redemption_reverse": ("reversals.add_reversal", "loyalty.redemption"),
    "loyalty_webhook_end": ("loyalty.change_webhook", "loyalty.webhook"),
    "loyalty_webhook_rotate": ("loyalty.change_webhook", "loyalty.webhook"),
    "loyalty_webhook_secret": ("loyalty.change_webhook", "loyalty.webhook"),
    "reversals_bulkrun_progress": ("reversals.view_bulkrun", "reversals.bulkrun"),
    "reversals_bulkrun_result": ("reversals.view_bulkrun", "reversals.bulkrun"),
    "reversals_ledgercheck_progress": ("reversals.view_ledgercheck", None),
    "reversals_reversal_correct": ("reversals.add_correction", "reversals.reversal"),
}
# URLs that accept only POST.
POSTS: dict[str, tuple[str, str | None]] = {
    "loyalty_webhook_test": ("loyalty.change_webhook", "loyalty.webhook"),
    "export_download": ("reversals.export_ledger", "reversals.export"),
    "loyalty_heldchange_decide": ("loyalty.change_emfsetting", "loyalty.heldchange"),
    "loyalty_redemption_export": ("reversals.export_ledger", None),
    "reversals_approval_decide": ("reversals.decide_approval", "reversals.approval"),
    "reversals_attempt_export": ("reversals.export_ledger", None),
    "reversals_bulkrun_cancel": ("reversals.add_bulkrun", "reversals.bulkrun"),
    "reversals_bulkrun_check": ("reversals.add_bulkrun", "reversals.bulkrun"),
    "reversals_bulkrun_pause": ("reversals.add_bulkrun", "reversals.bulkrun"),
    "reversals_bulkrun_run": ("reversals.add_bulkrun", "reversals.bulkrun"),
    "reversals_correction_export": ("reversals.export_ledger", None),
    "reversals_ledgercheck_verify": ("reversals.add_ledgercheck", None),
    "views": ("loyalty.view_redemption", None),
    "reversals_reversal_export": ("reversals.export_ledger", None),
}
# Arguments after the row in the URL.
MORE_ARGUMENTS: dict[str, list[Any]] = {
    "org_emf_change": ["Reversal_window_days"],
    "loyalty_apiclient_revoke_secret": [1],
}
# Pages that every signed-in user may open, and URLs that show no rows.
OPEN = {"choose_org", "index", "jsi18n", "password_change", "password_change_done", "search"}
OF_SIGN_IN = {"login", "logout", "enter_code", "set_up_second_factor", "leave"}
OF_DJANGO = {"autocomplete", "app_list", None}
SWITCH = "loyalty.change_emfsetting"
ACTIONS: dict[str, dict[str, str]] = {
    "loyalty.org": dict.fromkeys(["turn_on", "turn_off", "pause", "end_pause"], SWITCH),
    "loyalty.redemption": {"reverse_in_bulk": "reversals.add_bulkrun"},
    "reversals.approval": {"decide": "reversals.decide_approval"},
    "reversals.delivery": {"deliver_again": "reversals.change_delivery"},
    "django_tasks_database.dbtaskresult": {"run_again": "django_tasks_database.change_dbtaskresult"},
}
WITH_ROLES = [*ROLES, "superuser", "no role"]


@pytest.fixture
def world(db: None) -> World:
    return world_with_a_row_of_every_model()


def world_with_a_row_of_every_model() -> World:
    world = make_world()
    User.objects.create_user(f"vik.{world.org.id}", is_staff=True)
    make_webhook(world.org)
    create_api_client(org=world.org, username="till.2")
    ReasonCode.objects.create(org=world.org, code="RETURNED", meaning="The goods were returned")
    set_emf(org=world.org, key="Reversal_window_days", value="30", ticket="T-1", reason="policy", changed_by="meera")
    set_group(org=world.org, public_id=7, add=[world.asha.public_id])
    record_change(world.asha, org=world.org, action="changed", made_by="meera", reason="why", before={}, after={})
    world.reverse(redeemed(world), 3)
    reversal = Reversal.objects.get(org=world.org)
    correct(reversal)
    runs.start_from_redemptions(
        org=world.org, key="page-1", redemptions=[reversal.redemption], reason="why", made_by="meera"
    )
    make_task()
    large_exports.add(org=world.org, asked_by="meera", kind="reversals.reversal", filters=f"org={world.org.id}")
    limit = {"key": "Reversal_approval_points", "value": "9", "ticket": "T-1", "reason": "policy"}
    hold_limit(org=world.org, program=None, asked_by="meera", **limit)
    LedgerCheck.objects.create(org=world.org, started_at=days_ago(1), finished_at=days_ago(1), broken_count=0)
    return world


@pytest.fixture
def without_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the lists of links around a page, which take half of the time and do not depend on the request."""
    monkeypatch.setattr(site, "get_sidebar_list", lambda request: [])
    monkeypatch.setattr(site, "get_app_list", lambda request, app_label=None: [])


def patterns(found: list[Any]) -> Iterator[URLPattern]:
    for each in found:
        if isinstance(each, URLPattern):
            yield each
        else:
            yield from patterns(each.url_patterns)


def sign_in(world: World, role: str) -> tuple[Client, set[str]]:
    """Returns a client signed in with the role, and the role's permissions."""
    if role == "superuser":
        client = Client()
        client.force_login(User.objects.create_superuser("root", password="a long password"))
        return client, set()
    client = staff_of(world, *([] if role == "no role" else [role]), username=role)
    return client, set(ROLES.get(role, ()))


def may(rights: set[str], role: str, permission: str) -> bool:
    return permission != NEVER and (role == "superuser" or permission in rights)


def row_of(model: str, world: World) -> models.Model:
    """Returns a row of the world's org."""
    kind: Any = apps.get_model(model)
    if kind is Org:
        return world.org
    has_org = any(field.name == "org" for field in kind._meta.get_fields())
    row = (kind._default_manager.filter(org=world.org) if has_org else kind._default_manager).first()
    assert row is not None, f"the world has no {model}"
    return row


def address_of(page: str, model: str | None, world: World) -> str:
    arguments = [row_of(model, world).pk] if model else []
    return reverse(f"admin:{page}", args=[*arguments, *MORE_ARGUMENTS.get(page, [])])


def name_of(model: str, kind: str) -> str:
    return f"{model.replace('.', '_')}_{kind}"


@pytest.mark.once
def test_every_admin_url_is_covered_by_these_tests() -> None:
    known = OPEN | OF_SIGN_IN | OF_DJANGO | set(PAGES) | set(POSTS)
    for model in MODELS:
        known |= {name_of(model, kind) for kind in ("changelist", "add", "change", "delete", "history")}
    assert {pattern.name for pattern in patterns(site.urls[0])} == known
    assert {model._meta.label_lower for model in site._registry} == set(MODELS)


@pytest.mark.once
@pytest.mark.parametrize("role", WITH_ROLES)
def test_each_role_opens_exactly_its_own_pages(world: World, role: str) -> None:
    client, rights = sign_in(world, role)
    wrong: list[tuple[str, int, int]] = []

    def expect(address: str, allowed: bool) -> None:
        status = client.get(address).status_code
        if status != (200 if allowed else 403):
            wrong.append((address, status, 200 if allowed else 403))

    for model, needed in MODELS.items():
        app, _, name = model.partition(".")
        views = may(rights, role, f"{app}.view_{name}")
        row = row_of(model, world)
        expect(reverse(f"admin:{name_of(model, 'changelist')}"), views)
        expect(reverse(f"admin:{name_of(model, 'add')}"), may(rights, role, needed.add))
        expect(reverse(f"admin:{name_of(model, 'change')}", args=[row.pk]), views)
        reads_changes = may(rights, role, "loyalty.view_staffchange")
        expect(reverse(f"admin:{name_of(model, 'history')}", args=[row.pk]), views and reads_changes)
        expect(reverse(f"admin:{name_of(model, 'delete')}", args=[row.pk]), False)
    for page, (permission, model) in PAGES.items():
        expect(address_of(page, model, world), may(rights, role, permission))
    for page in sorted(OPEN):
        expect(reverse(f"admin:{page}"), True)
    assert wrong == []


@pytest.mark.once
@pytest.mark.parametrize("role", WITH_ROLES)
def test_each_role_is_refused_posts_without_permission(world: World, role: str) -> None:
    client, rights = sign_in(world, role)
    for page, (permission, model) in POSTS.items():
        address = address_of(page, model, world)
        assert client.get(address).status_code in {403, 405}, address
        if not may(rights, role, permission):
            assert client.post(address).status_code == 403, address
    for model, needed in MODELS.items():
        if not may(rights, role, needed.change):
            address = reverse(f"admin:{name_of(model, 'change')}", args=[row_of(model, world).pk])
            assert client.post(address, {"reason": "because"}).status_code == 403, address


@pytest.mark.once
def test_rows_of_a_foreign_org_are_not_found_with_any_role(world: World) -> None:
    """The user has every role, but in another org."""
    client = staff_of(make_world(), *ROLES, username="foreign")
    for model in MODELS:
        if model.startswith(("auth.", "django_tasks_database.")):
            continue
        row = row_of(model, world)
        for kind in ("change", "history", "delete"):
            response = client.get(reverse(f"admin:{name_of(model, kind)}", args=[row.pk]))
            assert response.status_code in {302, 404} | ({403} if kind == "delete" else set()), (model, kind)
        text = client.get(reverse(f"admin:{name_of(model, 'changelist')}")).content.decode()
        assert f"/{row.pk}/change/" not in text, model
    for page, (_, model) in (PAGES | POSTS).items():
        if model is not None and not model.startswith("auth."):
            address = address_of(page, model, world)
            assert client.get(address).status_code in {404, 405}, page
            assert client.post(address, {"step": "confirm", "decision": "approve"}).status_code == 404, page


@pytest.mark.once
def test_pages_redirect_to_sign_in_without_a_session(world: World) -> None:
    for model in MODELS:
        for kind in ("changelist", "add"):
            response = Client().get(reverse(f"admin:{name_of(model, kind)}"))
            assert response.status_code == 302
            assert response["Location"].startswith(reverse("admin:login"))


@pytest.mark.once
@pytest.mark.parametrize("role", WITH_ROLES)
def test_each_role_is_offered_exactly_its_own_actions(world: World, role: str, rf: Any) -> None:
    _client, rights = sign_in(world, role)
    request = rf.get("/admin/")
    request.user = User.objects.get(username="root" if role == "superuser" else role)
    for model, admin in site._registry.items():
        allowed = ACTIONS.get(model._meta.label_lower, {})
        offered = set(admin.get_actions(request))
        assert offered == {name for name, needed in allowed.items() if may(rights, role, needed)}, model


def test_autocomplete_shows_no_rows_of_foreign_orgs(world: World) -> None:
    foreign = staff_of(make_world(), *ROLES, username="foreign")
    for model, name in (
        ("loyalty.program", "org"),
        ("loyalty.redemption", "customer"),
        ("reversals.reversal", "redemption"),
    ):
        app, _, model_name = model.partition(".")
        asked = {"app_label": app, "model_name": model_name, "field_name": name}
        found = foreign.get(reverse("admin:autocomplete"), asked).json()["results"]
        assert str(row_of(f"loyalty.{name}", world).pk) not in {each["id"] for each in found}
    asked = {"app_label": "auth", "model_name": "user", "field_name": "groups"}
    assert foreign.get(reverse("admin:autocomplete"), asked).status_code in {403, 404}


@pytest.mark.parametrize("row_id", ["1", "%00", "x"])
def test_view_on_site_urls_do_not_exist(world: World, row_id: str) -> None:
    client, _ = sign_in(world, "superuser")
    for kind in ContentType.objects.all():
        assert client.get(f"/admin/r/{kind.pk}/{row_id}/").status_code == 404, kind


def test_groups_are_the_roles_of_the_migration() -> None:
    assert set(Group.objects.values_list("name", flat=True)) == set(ROLES)


@pytest.mark.parametrize(
    "odd",
    [
        {"q": "\0"},
        {"q": "9" * 30},
        {"q": "٣"},
        {"q": "' OR 1=1 --"},
        {"p": "9" * 30},
        {"p": "-1"},
        {"o": "1.-99"},
        {"org": "\0"},
        {"org": "9" * 30},
        {"unknown": "1"},
        {"id__exact": "9" * 30},
        {"org__id__exact": "\0"},
        {"_to_field": "id"},
        {"_popup": "1"},
        {"e": "1"},
        {"all": ""},
        {"username": "\0"},
        {"name__contains": "\0"},
    ],
)
def test_odd_query_strings_do_not_cause_errors_in_lists(world: World, without_frame: None, odd: dict[str, str]) -> None:
    client, _ = sign_in(world, "superuser")
    for address in [*(reverse(f"admin:{name_of(model, 'changelist')}") for model in MODELS), reverse("admin:find")]:
        assert client.get(address, odd).status_code in {200, 302, 400}, address


@pytest.mark.parametrize(
    ("lookup", "value"),
    [
        ("id__in", "1," + "9" * 30),
        ("pk", "1"),
        ("TEXT__regex", "("),
        ("TEXT__contains", "\0"),
        ("TEXT__startswith", "a"),
        ("password__startswith", "a"),
        ("before__contains", "\0"),
        ("org__name__startswith", "a"),
        ("customer__public_id__regex", "("),
    ],
)
def test_look_ups_that_a_list_does_not_offer_are_refused(world: World, lookup: str, value: str) -> None:
    client, _ = sign_in(world, "superuser")
    for model in site._registry:
        text = next((field.name for field in model._meta.fields if isinstance(field, models.CharField)), "id")
        address = reverse(f"admin:{name_of(model._meta.label_lower, 'changelist')}")
        response = client.get(address, {lookup.replace("TEXT", text): value})
        assert (response.status_code, response.headers.get("Location")) == (302, f"{address}?e=1"), address


@pytest.mark.parametrize("odd", ["\0", "x", "(", "9" * 30, "-1", ""])
def test_odd_filter_values_do_not_cause_errors(world: World, odd: str, rf: Any) -> None:
    """Reads the rows and choices of each list without its page, which would take ten times as long."""
    sign_in(world, "superuser")
    user = User.objects.get(username="root")

    def listed(admin: Any, **asked: str) -> Any:
        request = rf.get("/admin/", asked)
        request.user, request.session = user, {}
        return admin.get_changelist_instance(request)

    for admin in site._registry.values():
        for name in {each for filter in listed(admin).filter_specs for each in filter.expected_parameters()}:
            with suppress(*large_exports.UNREADABLE), transaction.atomic():
                changelist = listed(admin, **{name: odd})
                list(changelist.result_list)
                for filter in changelist.filter_specs:
                    list(filter.choices(changelist))


@pytest.mark.parametrize("odd", ["\0" * 32, "\0", "é" * 40, "(", "a" * 400])
@pytest.mark.parametrize("names", [["sessionid"], ["csrftoken", "messages", "unknown"]], ids="-".join)
def test_odd_cookies_do_not_cause_errors(world: World, without_frame: None, names: list[str], odd: str) -> None:
    client, _ = sign_in(world, "superuser")
    for name in names:
        client.cookies[name] = odd
    for page in OPEN | OF_SIGN_IN - {"logout", "leave"}:
        assert client.get(reverse(f"admin:{page}")).status_code in {200, 302}, page
    for page in OF_SIGN_IN | {"password_change"}:
        assert client.post(reverse(f"admin:{page}"), {"username": "root"}).status_code in {200, 302}, page


@pytest.mark.parametrize("odd", ["abc", "\0", "1.5", "-1", "", "٣", "9" * 30])
def test_odd_row_ids_do_not_cause_errors_in_actions(world: World, without_frame: None, odd: str) -> None:
    client, _ = sign_in(world, "superuser")
    for model, actions in ACTIONS.items():
        address = reverse(f"admin:{name_of(model, 'changelist')}")
        for action in actions:
            chosen = {"action": action, "index": "0", "_selected_action": [odd, row_of(model, world).pk]}
            # The id of a missing row is not an error: the action runs on the other row.
            is_number = (odd.isdecimal() or odd == "-1") and not model.startswith("django_tasks_database.")
            response = client.post(address, chosen, follow=True)
            assert response.status_code == 200, (address, action)
            assert ("One of the selected rows does not exist." in response.content.decode()) is not is_number, (
                address,
                action,
            )


@pytest.mark.parametrize("odd", ["0", "x", "-1", "9" * 30, "%00", "1%2F1", "..%2F..", "1'"])
def test_odd_row_ids_do_not_cause_errors_in_pages(world: World, without_frame: None, odd: str) -> None:
    client, _ = sign_in(world, "superuser")
    for model in MODELS:
        for kind in ("change", "history", "delete"):
            address = reverse(f"admin:{name_of(model, kind)}", args=["ODD"]).replace("ODD", odd)
            assert client.get(address).status_code in {301, 302, 403, 404}, address
    for page, (_, model) in (PAGES | POSTS).items():
        if model is not None:
            address = address_of(page, model, world).replace(f"/{row_of(model, world).pk}/", f"/{odd}/")
            assert client.get(address).status_code in {301, 302, 400, 403, 404, 405}, address
            assert client.post(address, {"reason": "\0"}).status_code in {301, 302, 400, 403, 404, 405}, address
