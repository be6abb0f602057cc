"""Users of the back office: who may manage them, what is recorded, and the list of all changes."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from loyalty.models import OrgAccess, StaffChange
from loyalty.staff.rights import ROLES_IN_WORDS, rights_of_role
from reversals.roles import ROLES
from tests.builders import World, make_world, staff_of

pytestmark = pytest.mark.django_db

PASSWORD = "quite a long password"
USERS, ROLES_LIST, CHANGES = "/admin/auth/user/", "/admin/auth/group/", "/admin/loyalty/staffchange/"


@pytest.fixture(autouse=True)
def quick_passwords(settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root", password=PASSWORD)


@pytest.fixture
def superuser(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


@pytest.fixture
def ravi(world: World) -> User:
    user = User.objects.create_user("ravi", password=PASSWORD, is_staff=True, first_name="Ravi")
    user.groups.set([Group.objects.get(name="Support")])
    OrgAccess.objects.create(user=user, org=world.org)
    return user


def page_of(user: User, action: str = "change") -> str:
    return f"{USERS}{user.pk}/{action}/"


def orgs(*accesses: OrgAccess, new: tuple[int, ...] = (), remove: bool = False) -> dict[str, Any]:
    """Returns the form data of the org rows."""
    rows = [{"id": each.pk, "user": each.user_id, "org": each.org_id} for each in accesses]
    if remove:
        rows = [row | {"DELETE": "on"} for row in rows]
    rows += [{"org": org_id} for org_id in new]
    values = {f"org_accesses-{n}-{name}": value for n, row in enumerate(rows) for name, value in row.items()}
    return values | {"org_accesses-TOTAL_FORMS": len(rows), "org_accesses-INITIAL_FORMS": len(accesses)}


def new_user(**values: Any) -> dict[str, Any]:
    return {
        "username": "asha",
        "password1": PASSWORD,
        "password2": PASSWORD,
        "first_name": "Asha",
        "last_name": "",
        "email": "",
        "groups": [Group.objects.get(name="Approver").pk],
        "reason": "Joined the team.",
    } | values


def changed_ravi(user: User, **values: Any) -> dict[str, Any]:
    groups = list(user.groups.values_list("pk", flat=True))
    kept = {"first_name": "Ravi", "last_name": "", "email": "", "is_active": "on", "groups": groups, "reason": "Asked."}
    return orgs(*user.org_accesses.all()) | kept | values


def changes() -> list[tuple[Any, ...]]:
    rows = StaffChange.objects.filter(subject="auth.user").order_by("id")
    return list(rows.values_list("org", "subject_name", "action", "made_by", "reason", "before", "after"))


def text_of(page: HttpResponse) -> str:
    return page.content.decode()


def test_new_user_gets_roles_and_orgs_and_can_sign_in(world: World, superuser: Client) -> None:
    response = superuser.post(f"{USERS}add/", new_user() | orgs(new=(world.org.id,)))
    assert response.status_code == 302, text_of(response)
    asha = User.objects.get(username="asha")
    assert (asha.is_staff, asha.is_superuser, asha.is_active) == (True, False, True)
    assert asha.has_perm("reversals.decide_approval")
    assert changes() == [
        (
            None,
            "asha",
            "added",
            "root",
            "Joined the team.",
            {},
            {
                "username": "asha",
                "first name": "Asha",
                "active": True,
                "superuser": False,
                "roles": "Approver",
                "orgs": str(world.org),
                "password": "set",
            },
        )
    ]
    client = Client()
    assert client.post("/admin/login/", {"username": "asha", "password": PASSWORD}).status_code == 302
    assert client.get("/admin/").status_code == 200


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"password1": "short", "password2": "short"}, "at least 12 characters"),
        ({"password2": "another long password"}, "The two password fields didn"),
        ({"password1": "", "password2": ""}, "This field is required."),
        ({"username": "root"}, "already exists"),
        ({"reason": " "}, "This field is required."),
    ],
)
def test_invalid_new_user_is_refused_with_the_reason(superuser: Client, values: dict[str, str], problem: str) -> None:
    response = superuser.post(f"{USERS}add/", new_user(**values) | orgs())
    assert problem in text_of(response)
    assert User.objects.count() == 1
    assert changes() == []


def test_change_of_roles_and_orgs_is_recorded_by_name(world: World, superuser: Client, ravi: User) -> None:
    operator = Group.objects.get(name="Reversal operator")
    values = changed_ravi(ravi, groups=[operator.pk], first_name="Ravindra", without="on")
    response = superuser.post(page_of(ravi), values | orgs(*ravi.org_accesses.all(), remove=True))
    assert response.status_code == 302, text_of(response)
    assert not ravi.org_accesses.exists()
    assert changes() == [
        (
            None,
            "ravi",
            "changed",
            "root",
            "Asked.",
            {"first name": "Ravi", "roles": "Support", "orgs": str(world.org)},
            {"first name": "Ravindra", "roles": "Reversal operator", "orgs": ""},
        )
    ]


@pytest.mark.parametrize(
    ("values", "new_orgs", "problem"),
    [
        ({"groups": []}, 1, "Choose a role, or tick “Yes, without a role or an org”."),
        ({}, 0, "Choose an org, or tick “Yes, without a role or an org”."),
        ({"groups": [], "without": "on"}, 0, ""),
        ({"groups": [], "is_superuser": "on"}, 0, ""),
    ],
)
def test_user_without_role_or_org_is_saved_only_if_confirmed(
    world: World, superuser: Client, values: dict[str, Any], new_orgs: int, problem: str
) -> None:
    sent = new_user(**values) | orgs(new=(world.org.id,) * new_orgs)
    response = superuser.post(f"{USERS}add/", sent)
    assert (response.status_code, problem in text_of(response)) == (200 if problem else 302, True)
    assert User.objects.filter(username="asha").exists() is not bool(problem)


def test_user_loses_the_last_org_only_if_confirmed(superuser: Client, ravi: User) -> None:
    values = changed_ravi(ravi) | orgs(*ravi.org_accesses.all(), remove=True)
    assert "Choose an org, or tick" in text_of(superuser.post(page_of(ravi), values))
    assert superuser.post(page_of(ravi), values | {"is_active": ""}).status_code == 302
    assert not ravi.org_accesses.exists()


def test_every_field_of_the_user_page_has_a_label(world: World, superuser: Client, ravi: User) -> None:
    text = text_of(superuser.get(page_of(ravi)))
    selects = re.findall(r"<select[^>]*>", text)
    assert selects
    assert all('aria-label="Org"' in each for each in selects if "org_accesses" in each)


def test_rights_page_shows_each_right_with_the_role_that_gives_it(
    world: World, superuser: Client, ravi: User, count_queries: Callable[..., int]
) -> None:
    few = count_queries(lambda: superuser.get(page_of(ravi, "rights")))
    ravi.groups.add(Group.objects.get(name="Approver"))
    ravi.user_permissions.add(Permission.objects.get(codename="merge_customers"))
    page = superuser.get(page_of(ravi, "rights"))
    assert count_queries(lambda: superuser.get(page_of(ravi, "rights"))) <= few + 1
    rows = dict(page.context["table"]["rows"])
    assert rows["approve or reject requests of other users"] == "Approver"
    assert rows["see customers"] == "Approver, Support"
    assert rows["merge customers"] == "given to the user alone"
    assert "reverse points" not in rows
    assert str(world.org) in text_of(page)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"is_active": False}, "the user is inactive, so no right applies"),
        ({"is_superuser": True}, "may do everything in every org"),
        ({}, "no org, so the user sees no rows"),
    ],
)
def test_rights_page_says_if_roles_do_not_decide(
    superuser: Client, ravi: User, values: dict[str, Any], text: str
) -> None:
    ravi.org_accesses.all().delete()
    User.objects.filter(pk=ravi.pk).update(**values)
    page = superuser.get(page_of(ravi, "rights"))
    assert text in text_of(page)
    assert ("table" in page.context) is not bool(values)


def test_every_role_has_a_sentence_and_rights_in_words() -> None:
    assert set(ROLES_IN_WORDS) == set(ROLES)
    words = [right.words for role in Group.objects.all() for right in rights_of_role(role)]
    assert [each for each in words if each.startswith(("Can", "view"))] == []


def test_username_cannot_change_and_users_cannot_be_deleted(superuser: Client, ravi: User) -> None:
    superuser.post(page_of(ravi), changed_ravi(ravi, username="someone"))
    ravi.refresh_from_db()
    assert ravi.username == "ravi"
    assert superuser.post(page_of(ravi, "delete"), {"post": "yes"}).status_code == 403
    superuser.post(USERS, {"action": "delete_selected", "_selected_action": [ravi.pk], "post": "yes"})
    assert User.objects.filter(username="ravi").exists()


def test_deactivated_user_is_signed_out_immediately(superuser: Client, ravi: User) -> None:
    session = Client()
    session.force_login(ravi)
    assert session.get("/admin/").status_code == 200
    superuser.post(page_of(ravi), changed_ravi(ravi, is_active=""))
    assert session.get("/admin/").status_code == 302
    assert changes()[0][5:] == ({"active": True}, {"active": False})


def test_superusers_cannot_deactivate_or_demote_themselves(superuser: Client, root: User) -> None:
    response = superuser.post(page_of(root), {"first_name": "Root", "reason": "Tidying."} | orgs())
    assert response.status_code == 302
    root.refresh_from_db()
    assert (root.first_name, root.is_active, root.is_superuser) == ("Root", True, True)


@pytest.mark.parametrize("role", [*ROLES, None])
def test_only_superusers_can_manage_users(world: World, root: User, role: str | None) -> None:
    client = staff_of(world, *([role] if role else []))
    count = User.objects.count()
    for address in (
        USERS,
        f"{USERS}add/",
        page_of(root),
        ROLES_LIST,
        f"{ROLES_LIST}{Group.objects.first().pk}/change/",
    ):
        assert client.get(address).status_code == 403, address
    for address in (
        f"{USERS}add/",
        page_of(root),
        page_of(root, "set-password"),
        page_of(root, "reset-second-factor"),
    ):
        values = new_user(is_superuser="on") | orgs()
        assert client.post(address, values).status_code == 403, address
    assert User.objects.count() == count
    assert User.objects.get(username="root").check_password(PASSWORD)
    assert changes() == []


def test_models_of_django_otp_and_axes_have_no_pages(superuser: Client) -> None:
    for address in ("otp_totp/totpdevice/", "otp_static/staticdevice/", "axes/accessattempt/"):
        assert superuser.get(f"/admin/{address}").status_code == 404


def test_setting_a_password_is_recorded_without_it_and_ends_sessions(superuser: Client, ravi: User) -> None:
    session = Client()
    session.force_login(ravi)
    new = "another long password"
    values = {"password1": new, "password2": new, "reason": "Forgotten."}
    assert superuser.post(page_of(ravi, "set-password"), values).status_code == 302
    ravi.refresh_from_db()
    assert ravi.check_password(new)
    assert session.get("/admin/").status_code == 302
    assert changes() == [(None, "ravi", "password changed", "root", "Forgotten.", {}, {"password": "changed"})]
    everything = json.dumps(list(StaffChange.objects.values()), default=str)
    assert new not in everything
    assert ravi.password not in everything


def test_too_short_a_password_is_not_set(superuser: Client, ravi: User) -> None:
    values = {"password1": "short", "password2": "short", "reason": "Forgotten."}
    assert "at least 12 characters" in text_of(superuser.post(page_of(ravi, "set-password"), values))
    ravi.refresh_from_db()
    assert ravi.check_password(PASSWORD)
    assert changes() == []


def test_second_factor_is_reset_only_with_a_reason(superuser: Client, ravi: User) -> None:
    TOTPDevice.objects.create(user=ravi, confirmed=True)
    StaticDevice.objects.create(user=ravi)
    address = page_of(ravi, "reset-second-factor")
    assert superuser.get(address).status_code == 200
    assert "This field is required." in text_of(superuser.post(address, {"reason": ""}))
    assert TOTPDevice.objects.count() == 1
    assert superuser.post(address, {"reason": "Lost the phone."}).status_code == 302
    assert (TOTPDevice.objects.count(), StaticDevice.objects.count()) == (0, 0)
    assert changes() == [
        (
            None,
            "ravi",
            "second factor reset",
            "root",
            "Lost the phone.",
            {"second factor": True},
            {"second factor": False},
        )
    ]
    assert "User ravi has no second factor yet" in text_of(superuser.post(address, {"reason": "Again."}))


def test_reset_of_the_second_factor_ends_sessions_verified_with_it(superuser: Client, ravi: User, settings) -> None:
    device = TOTPDevice.objects.create(user=ravi, confirmed=True)
    session = Client()
    session.force_login(ravi)
    values = session.session
    values["otp_device_id"] = device.persistent_id
    values.save()
    superuser.post(page_of(ravi, "reset-second-factor"), {"reason": "Lost the phone."})
    settings.STAFF_SECOND_FACTOR = True
    assert session.get("/admin/", follow=True).redirect_chain[-1][0].startswith("/admin/second-factor/new/")


def test_superusers_cannot_reset_their_own_second_factor(superuser: Client, root: User) -> None:
    TOTPDevice.objects.create(user=root, confirmed=True)
    page = superuser.post(page_of(root, "reset-second-factor"), {"reason": "New phone."})
    assert "You cannot reset your own second factor; ask another superuser." in text_of(page)
    assert TOTPDevice.objects.count() == 1


def test_role_page_is_read_only_and_shows_permissions_and_users(superuser: Client, ravi: User) -> None:
    page = text_of(superuser.get(f"{ROLES_LIST}{ravi.groups.get().pk}/change/"))
    assert "see lots" in page
    assert "reads customers and their points, with identifiers masked" in page
    assert "Can view" not in page
    assert "ravi" in page
    assert superuser.get(f"{ROLES_LIST}add/").status_code == 403
    assert superuser.post(f"{ROLES_LIST}{ravi.groups.get().pk}/change/", {"name": "Admins"}).status_code == 403


# The list of changes


def a_change(world: World, **values: Any) -> StaffChange:
    return StaffChange.objects.create(
        **{
            "org": world.org,
            "subject": "loyalty.program",
            "subject_id": "1",
            "subject_name": "Main <b>(1)</b>",
            "action": "changed",
            "before": {"name": "Mein", "is_active": True},
            "after": {"name": "Main", "is_active": False},
            "reason": "A slip.",
            "made_by": "meera",
            "made_at": world.org.created_at,
            "request_id": "ab" * 16,
        }
        | values
    )


def test_change_is_shown_field_by_field(world: World) -> None:
    change = a_change(world)
    auditor = staff_of(world, "Auditor")
    page = text_of(auditor.get(f"{CHANGES}{change.pk}/change/"))
    for text in ("A slip.", "Mein", "Main &lt;b&gt;(1)&lt;/b&gt;", "yes", "no", "ab" * 16):
        assert text in page
    assert auditor.post(f"{CHANGES}{change.pk}/change/", {}).status_code == 403


def test_list_of_changes_is_filtered(world: World) -> None:
    a_change(world, reason="First of all")
    a_change(world, reason="Of a customer", subject="loyalty.customer", made_by="ravi")
    a_change(world, reason="Long ago", made_at="2020-01-01T00:00:00Z")
    auditor = staff_of(world, "Auditor")

    def found(**filters: str) -> set[str]:
        page = text_of(auditor.get(CHANGES, filters))
        return {reason for reason in ("First of all", "Of a customer", "Long ago") if reason in page}

    assert found() == {"First of all", "Of a customer", "Long ago"}
    assert found(made_by="ravi") == {"Of a customer"}
    assert found(subject="loyalty.customer") == {"Of a customer"}
    assert found(period="7") == {"First of all", "Of a customer"}
    assert found(made_by="ravi\0") == {"Of a customer"}
    assert found(period="nonsense", subject="\0") == {"First of all", "Of a customer", "Long ago"}


def test_changes_of_other_orgs_and_of_users_are_not_shown(world: World, superuser: Client) -> None:
    foreign = a_change(make_world(), reason="Elsewhere")
    of_users = a_change(world, org=None, reason="Of a user")
    auditor = staff_of(world, "Auditor")
    for change in (foreign, of_users):
        assert auditor.get(f"{CHANGES}{change.pk}/change/").status_code == 302
    for filters in ({}, {"org": "none"}, {"org": str(foreign.org_id)}):
        page = text_of(auditor.get(CHANGES, filters))
        assert "Elsewhere" not in page
        assert "Of a user" not in page
    assert "Of a user" in text_of(superuser.get(CHANGES, {"org": "none"}))
    assert "Of a user" not in text_of(superuser.get(CHANGES, {"org": str(world.org.id)}))


@pytest.mark.parametrize("role", ["Reversal operator", "Approver", "Support"])
def test_user_without_permission_cannot_view_changes(world: World, role: str) -> None:
    client = staff_of(world, role)
    assert client.get(CHANGES).status_code == 403
    assert client.get(reverse("admin:loyalty_staffchange_change", args=[a_change(world).pk])).status_code == 403
