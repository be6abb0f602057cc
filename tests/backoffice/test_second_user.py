"""What one user cannot do alone: reverse too much in a day, lift a block and reverse, raise a limit, call the API."""

import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from time_machine import travel

from loyalty.emf.registry import APPROVAL_POINTS, APPROVAL_POINTS_PER_DAY
from loyalty.emf.stored import set_emf, settings_of
from loyalty.errors import InvalidOperation, NeedsSecondUser
from loyalty.ledger.customers import set_status
from loyalty.models import ApiClient, ApiSecret, Customer, HeldChange, Redemption, StaffChange
from loyalty.staff import held_changes
from loyalty.staff.audit import record_change
from reversals.manual import approvals, manual_reversals
from reversals.manual.manual_reversals import ManualReversal
from reversals.models import Approval, Channel, Reversal
from reversals.movements.reverse.movement import Accepted
from reversals.refusals import ErrorCode
from tests.builders import (
    World,
    changes_of,
    correct,
    make_customer,
    make_program,
    make_world,
    operator_of,
    redeemed,
    set_value,
    staff_of,
)

pytestmark = pytest.mark.django_db

LIMIT, DAY = APPROVAL_POINTS.name, APPROVAL_POINTS_PER_DAY.name


def run(*words: object) -> dict[str, Any]:
    said = io.StringIO()
    call_command(str(words[0]), *map(str, words[1:]), "--json", stdout=said)
    return dict(json.loads(said.getvalue()))


def manual(redemption: Redemption, points: object = None, *, by: str = "meera", **options: Any) -> ManualReversal:
    return ManualReversal(
        org_id=redemption.org_id,
        redemption_id=redemption.public_id,
        points=None if points is None else Decimal(str(points)),
        reason="receipt 17",
        made_by=by,
        key=f"page {redemption.public_id} {points} {by}",
        **options,
    )


def reverse(redemption: Redemption, points: object = None, **options: Any) -> object:
    return manual_reversals.reverse(manual(redemption, points, **options))


# The limit of a day


def test_points_of_a_user_count_together_over_redemptions_pages_bulk_and_command() -> None:
    world = make_world(settings={DAY: "10"})
    operator_of(world, username="meera")
    assert isinstance(reverse(redeemed(world), 4), Reversal)
    assert isinstance(reverse(redeemed(world), 3, channel=Channel.BULK), Reversal)
    by_command = redeemed(world)
    words = ("reverse_points", world.org.id, by_command.public_id, "--reason", "r", "--by", "meera", "--points")
    with pytest.raises(CommandError, match=f"{DAY} allows 10 points of a user in 24 hours without approval: 7 already"):
        run(*words, 4)
    run(*words, 3)
    more = redeemed(world)
    outcome = manual_reversals.preview(manual(more, 1))
    assert isinstance(outcome, Accepted)
    assert outcome.why_approval is not None
    assert isinstance(reverse(more, 1), Approval)
    assert isinstance(reverse(more, 2, by="arun"), Reversal)
    with travel(timezone.now() + timedelta(hours=24, minutes=1), tick=False):
        assert isinstance(reverse(redeemed(world), 10), Reversal)


def test_calls_approved_and_corrected_reversals_do_not_count_against_the_limit_of_a_day() -> None:
    world = make_world(settings={DAY: "10"})
    assert world.reverse(redeemed(world, 100)).status_code == 200
    request = reverse(redeemed(world, 100))
    assert isinstance(request, Approval)
    assert approvals.approve(request, decided_by="arun", comment="").error is None
    wrong = reverse(redeemed(world))
    assert isinstance(wrong, Reversal)
    correct(wrong)
    assert isinstance(reverse(redeemed(world)), Reversal)
    assert isinstance(reverse(redeemed(world), 1), Approval)


def test_a_program_can_have_a_limit_of_a_day_of_its_own() -> None:
    world = make_world(settings={DAY: "5"})
    other = make_program(world.org)
    set_value(world.org, DAY, "20", program=other)
    assert isinstance(reverse(redeemed(world), 6), Approval)
    elsewhere = redeemed(World(world.org, other, world.asha, world.secret))
    assert isinstance(reverse(elsewhere, 6), Reversal)


# Lifted statuses


@pytest.mark.parametrize("status", ["FRAUD", "DEACTIVATED"])
def test_only_a_user_with_the_right_lifts_a_status_and_then_cannot_reverse_alone(world: World, status: str) -> None:
    redemption = redeemed(world)
    operator = staff_of(world, "Reversal operator", username="ravi")
    approver = staff_of(world, "Approver", "Reversal operator", username="arun")
    page = f"/admin/loyalty/customer/{world.asha.pk}/"
    asked = {"status": "ACTIVE", "reason": "The customer called."}
    assert operator.post(f"{page}status/", asked | {"status": status}).status_code == 302
    assert operator.post(f"{page}status/", asked).status_code == 403
    assert f"{page}status/" not in operator.get(f"{page}change/").content.decode()
    assert f"{page}status/" in approver.get(f"{page}change/").content.decode()
    assert approver.post(f"{page}status/", asked).status_code == 302
    with pytest.raises(CommandError, match="cannot reverse their points alone for a day"):
        run("reverse_points", world.org.id, redemption.public_id, "--reason", "r", "--by", "arun")
    request = reverse(redemption, 1, by="arun")
    assert isinstance(request, Approval)
    assert approvals.approve(request, decided_by="ravi", comment="").error is None
    assert isinstance(reverse(redemption, 2, by="ravi"), Reversal)
    with travel(timezone.now() + timedelta(hours=24, minutes=1), tick=False):
        assert isinstance(reverse(redemption, 3, by="arun"), Reversal)


def test_status_that_became_fraud_meanwhile_is_not_lifted_without_the_right(world: World) -> None:
    set_status(world.asha, status="FRAUD", reason="r", made_by="ravi")
    with pytest.raises(InvalidOperation, match="only a user with the right to lift it"):
        set_status(world.asha, status="ACTIVE", reason="r", made_by="meera")
    assert Customer.objects.get(pk=world.asha.pk).status == "FRAUD"


def test_lifting_counts_after_the_customer_was_merged(world: World) -> None:
    old, redemption = world.asha, redeemed(world)
    into = make_customer(world.org)
    set_status(old, status="FRAUD", reason="r", made_by="ravi")
    set_status(old, status="ACTIVE", reason="r", made_by="meera", may_lift=True)
    why = ("--ticket", "T", "--reason", "r", "--by", "arun")
    run("merge_customers", world.org.id, old.public_id, into.public_id, *why)
    assert isinstance(reverse(redemption, 1, by="meera"), Approval)


# Limits and API clients


@pytest.fixture
def limited(db: None) -> World:
    return make_world(settings={LIMIT: "10"})


def change_setting(client: Client, world: World, value: str, *, key: str = LIMIT, program: object = "") -> None:
    given = {"value": value, "program": program, "ticket": "T-1", "reason": "more returns"}
    assert client.post(f"/admin/loyalty/org/{world.org.id}/emf/{key}/", given).status_code == 302


def decide(client: Client, held: HeldChange, decision: str = "confirm", comment: str = "") -> Any:
    address = f"/admin/loyalty/heldchange/{held.pk}/decide/"
    return client.post(address, {"decision": decision, "comment": comment}, follow=True)


def test_limit_is_lowered_alone_and_raised_or_removed_by_two_users(limited: World) -> None:
    first = staff_of(limited, "Back-end team", username="ravi")
    second = staff_of(limited, "Back-end team", username="arun")
    change_setting(first, limited, "9")
    change_setting(first, limited, "5", program=limited.program.public_id)
    assert not HeldChange.objects.exists()
    for value, program in (("11", ""), ("", ""), ("6", limited.program.public_id), ("", limited.program.public_id)):
        before = list(changes_of(limited.org).values_list("new_value"))
        change_setting(first, limited, value, program=program)
        assert list(changes_of(limited.org).values_list("new_value")) == before
        held = HeldChange.objects.get(status="WAITING")
        assert "another user must decide it" in decide(first, held).content.decode()
        held.refresh_from_db()
        assert held.status == "WAITING"
        assert "in force" in decide(second, held, comment="asked").content.decode()
        held.refresh_from_db()
        assert (held.status, held.decided_by) == ("CONFIRMED", "arun")
        change = changes_of(limited.org).last()
        assert change is not None
        assert (change.new_value, change.changed_by) == (value, "ravi")
        assert change.reason == "more returns (confirmed by arun)"


def test_a_limit_of_a_day_is_set_alone_and_raised_by_two_users(limited: World) -> None:
    first = staff_of(limited, "Back-end team", username="ravi")
    change_setting(first, limited, "50", key=DAY)
    change_setting(first, limited, "60", key=DAY)
    assert settings_of(limited.org.id).get(APPROVAL_POINTS_PER_DAY) == 50
    assert HeldChange.objects.get().details["value"] == "60"
    change_setting(first, limited, "60", key=DAY)  # sent again
    assert HeldChange.objects.count() == 1


def test_rejected_and_lapsed_changes_are_not_made(limited: World) -> None:
    first = staff_of(limited, "Back-end team", username="ravi")
    second = staff_of(limited, "Back-end team", username="arun")
    change_setting(first, limited, "11")
    held = HeldChange.objects.get()
    assert "needs a comment" in decide(second, held, "reject").content.decode()
    decide(second, held, "reject", "not agreed")
    assert "already rejected" in decide(second, held).content.decode()
    change_setting(first, limited, "12")
    lapsing = HeldChange.objects.get(status="WAITING")
    HeldChange.objects.filter(pk=lapsing.pk).update(lapses_at=timezone.now())
    with pytest.raises(InvalidOperation, match="lapsed"):
        held_changes.confirm(lapsing, decided_by="arun", comment="")
    assert settings_of(limited.org.id).get(APPROVAL_POINTS) == 10


def test_command_that_raises_a_limit_or_adds_a_client_waits_for_a_second_user(limited: World) -> None:
    words = ("set_emf", limited.org.id, LIMIT, "11", "--ticket", "T", "--reason", "R")
    said = run(*words)
    assert said["waits_for_second_user"] == HeldChange.objects.get().id
    assert settings_of(limited.org.id).get(APPROVAL_POINTS) == 10
    added = run("create_api_client", limited.org.id, "till.2")
    assert "secret" not in added
    assert not ApiClient.objects.filter(org=limited.org, username="till.2").exists()
    assert HeldChange.objects.get(id=added["waits_for_second_user"]).words == "new API client: till.2"


def test_client_secret_and_reinstatement_wait_for_a_second_user_who_sees_the_secret_once(limited: World) -> None:
    first = staff_of(limited, "Back-end team", username="ravi")
    second = staff_of(limited, "Back-end team", username="arun")
    support = staff_of(limited, "Support", "Approver", username="asha")
    clients, why = "/admin/loyalty/apiclient/", {"reason": "A new till."}

    def confirmed() -> str:
        held = HeldChange.objects.get(status="WAITING")
        page = f"/admin/loyalty/heldchange/{held.pk}/change/"
        assert 'value="confirm"' not in first.get(page).content.decode()
        assert 'value="confirm"' in second.get(page).content.decode()
        assert decide(support, held).status_code == 403
        return str(decide(second, held).content.decode())

    first.post(f"{clients}add/", why | {"org": limited.org.id, "username": "till.2"})
    secret = re.search(r'id="secret">([\w-]{43})<', confirmed())
    assert secret is not None
    redemption = redeemed(limited)
    assert limited.reverse(redemption, 1, user="till.2", password=secret.group(1)).status_code == 200
    client = ApiClient.objects.get(username="till.2", org=limited.org)
    first.post(f"{clients}{client.pk}/issue/", why)
    assert ApiSecret.objects.filter(client=client).count() == 1
    assert 'id="secret"' in confirmed()
    assert ApiSecret.objects.filter(client=client).count() == 2
    assert first.post(f"{clients}{client.pk}/revoke/", why).status_code == 302
    first.post(f"{clients}{client.pk}/reinstate/", why)
    assert not ApiClient.objects.get(pk=client.pk).is_active
    confirmed()
    assert ApiClient.objects.get(pk=client.pk).is_active
    added = StaffChange.objects.get(subject="loyalty.apiclient", action="added")
    assert (added.made_by, added.after["confirmed by"]) == ("ravi", "arun")


def test_org_without_an_approval_limit_needs_no_second_user(world: World) -> None:
    run("create_api_client", world.org.id, "till.2")
    run("set_emf", world.org.id, LIMIT, "10", "--ticket", "T", "--reason", "R")
    assert not HeldChange.objects.exists()


def test_approvers_see_on_home_what_waits_and_what_was_confirmed(limited: World) -> None:
    first = staff_of(limited, "Back-end team", username="ravi")
    approver, operator = (staff_of(limited, role, username=role) for role in ("Approver", "Reversal operator"))
    change_setting(first, limited, "11")
    shown = approver.get("/admin/").content.decode()
    assert "Points without approval for the org: 11" in shown
    assert "waiting" in shown
    held_changes.confirm(HeldChange.objects.get(), decided_by="arun", comment="")
    assert "confirmed by arun" in approver.get("/admin/").content.decode()
    assert "Points without approval for the org: 11" not in operator.get("/admin/").content.decode()
    foreign = staff_of(make_world(), "Approver", username="far")
    assert "Points without approval for the org: 11" not in foreign.get("/admin/").content.decode()


# Resets by a superuser


def reset(username: str, *, by: str, action: str = "password changed") -> None:
    user = User.objects.get(username=username)
    record_change(user, org=None, action=action, made_by=by, reason="lost phone", before={}, after={})


@pytest.mark.parametrize("action", ["password changed", "second factor reset"])
def test_account_that_a_superuser_reset_approves_nothing_for_a_day(limited: World, action: str) -> None:
    staff_of(limited, "Approver", username="arun")
    request = reverse(redeemed(limited, 20))
    assert isinstance(request, Approval)
    reset("arun", by="root", action=action)
    answer = approvals.approve(request, decided_by="arun", comment="")
    assert answer.error is ErrorCode.NOT_APPROVABLE
    assert answer.attempt.refusal_reason.startswith(
        "The sign-in of arun was reset by root, so arun can approve nothing"
    )
    with pytest.raises(InvalidOperation, match="was reset by root"):
        held_changes.confirm(
            held_changes.hold_client(org=limited.org, username="x", reason="r", asked_by="ravi"),
            decided_by="arun",
            comment="",
        )
    with travel(timezone.now() + timedelta(hours=24, minutes=1), tick=False):
        assert approvals.approve(request, decided_by="arun", comment="").error is None


def test_change_of_the_own_password_bars_nobody(limited: World) -> None:
    staff_of(limited, "Approver", username="arun")
    reset("arun", by="arun")
    request = reverse(redeemed(limited, 20))
    assert isinstance(request, Approval)
    assert approvals.approve(request, decided_by="arun", comment="").error is None


def test_resets_are_on_the_home_page_of_approvers_of_the_org_for_30_days(limited: World) -> None:
    approver, operator = (staff_of(limited, role, username=role) for role in ("Approver", "Reversal operator"))
    foreign = staff_of(make_world(), "Approver", username="far")
    superuser = User.objects.create_superuser("root", password="a long password")
    root = Client()
    root.force_login(superuser)
    target = User.objects.get(username="Reversal operator")
    given = {"password1": "another long password", "password2": "another long password", "reason": "Forgotten."}
    assert root.post(f"/admin/auth/user/{target.pk}/set-password/", given).status_code == 302
    line = "Reversal operator: password changed"
    assert line in approver.get("/admin/").content.decode()
    assert line in root.get("/admin/").content.decode()
    assert line not in operator.get("/admin/", follow=True).content.decode()
    assert line not in foreign.get("/admin/").content.decode()
    with travel(timezone.now() + timedelta(days=31), tick=False):
        again = Client()
        again.force_login(User.objects.get(username="Approver"))
        assert line not in again.get("/admin/").content.decode()


# The user whom a command names


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda user, world: User.objects.filter(pk=user.pk).update(is_active=False), "no active user ravi"),
        (lambda user, world: user.groups.clear(), "ravi may not reverse points of org"),
        (lambda user, world: user.org_accesses.all().delete(), "ravi may not reverse points of org"),
        (lambda user, world: User.objects.filter(pk=user.pk).update(username="other"), "no active user ravi"),
    ],
)
def test_reverse_points_refuses_a_user_who_may_not_reverse(
    world: World, change: Callable[[User, World], object], problem: str
) -> None:
    change(operator_of(world), world)
    with pytest.raises(CommandError, match=problem):
        run("reverse_points", world.org.id, redeemed(world).public_id, "--reason", "r", "--by", "ravi")
    assert world.written()[0] == 0


def test_reverse_points_records_who_named_the_user(world: World) -> None:
    operator_of(world)
    run("reverse_points", world.org.id, redeemed(world).public_id, "--reason", "r", "--by", "ravi")
    reversal = Reversal.objects.get(org=world.org)
    named = StaffChange.objects.get(subject="reversals.reversal", subject_id=str(reversal.pk))
    assert (named.action, named.after) == ("user named by command", {"made by": "ravi"})
    assert named.made_by.endswith("(command)")
    shown = staff_of(world, "Auditor").get(f"/admin/reversals/reversal/{reversal.pk}/change/").content.decode()
    assert named.made_by in shown


def test_programs_raised_value_needs_a_second_user_although_the_org_has_no_limit() -> None:
    world = make_world()
    set_value(world.org, LIMIT, "5", program=world.program)
    with pytest.raises(NeedsSecondUser):
        set_emf(org=world.org, program=world.program, key=LIMIT, value="6", ticket="T", reason="R", changed_by="ravi")
