"""Bulk reversals by staff: upload or selection, check, confirmation, run, and download of the result."""

import csv
import io
import re
from itertools import count, pairwise
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import resolve, reverse

from loyalty.admin.statuses import Status, badge
from loyalty.errors import InvalidOperation
from loyalty.ledger.merging import merge_customers
from loyalty.models import Lot, OrgAccess, ReasonCode, Redemption
from reversals.admin.export import inert
from reversals.manual import approvals, manual_reversals
from reversals.manual.bulk import runs
from reversals.manual.bulk.runs import check_some, confirm, make_run, run_some, start_from_redemptions
from reversals.manual.bulk.uploads import FileRow
from reversals.models import Approval, Attempt, BulkRow, BulkRun, Channel, Reversal
from tests.builders import (
    ON,
    World,
    days_ago,
    make_customer,
    make_lot,
    make_world,
    points,
    redeem,
    redeemed,
    set_value,
    staff_of,
    work,
)
from tests.movements.test_races import at_once

LIMIT = "Reversal_approval_points"
PAUSED = "Reversal_paused"

_usernames = count(1)


@pytest.fixture
def operator(world: World) -> Client:
    return staff_of(world, "Reversal operator")


def written_file(*lines: str) -> SimpleUploadedFile:
    return SimpleUploadedFile("returns.csv", "\n".join(["redemption_id,points,reason", *lines]).encode())


def upload(client: Client, world: World, *lines: str, **changes: Any) -> BulkRun:
    response = send_file(client, world, *lines, **changes)
    assert response.status_code == 302, response.context["form"].errors
    return BulkRun.objects.get(id=resolve(response["Location"]).kwargs["object_id"])


def send_file(client: Client, world: World, *lines: str, **changes: Any) -> HttpResponse:
    form = {"org": world.org.id, "file": written_file(*lines), "reason": "shop closed", "page": str(uuid4())} | changes
    return client.post(reverse("admin:reversals_bulkrun_add"), form)


def press(client: Client, run: BulkRun, name: str) -> HttpResponse:
    return client.post(reverse(f"admin:reversals_bulkrun_{name}", args=[run.pk]))


def progress(client: Client, run: BulkRun) -> dict[str, Any]:
    shown = client.get(reverse("admin:reversals_bulkrun_progress", args=[run.pk])).json()
    return {"done": shown["done"], "all": shown["all"], "finished": not shown["working"], "notice": shown["notice"]}


def step(client: Client, run: BulkRun, name: str) -> dict[str, Any]:
    """Starts the run and lets the worker finish it. Returns the progress."""
    press(client, run, name)
    work()
    return progress(client, run)


def page(client: Client, run: BulkRun, **parameters: Any) -> HttpResponse:
    return client.get(reverse("admin:reversals_bulkrun_change", args=[run.pk]), parameters)


def result(client: Client, run: BulkRun) -> list[list[str]]:
    response = client.get(reverse("admin:reversals_bulkrun_result", args=[run.pk]))
    return list(csv.reader(io.StringIO(response.content.decode())))


def run_of(world: World, *redemptions: Redemption, amount: str = "") -> BulkRun:
    """Creates a run as meera, without the pages."""
    rows = [FileRow(line, each.public_id, amount, "why") for line, each in enumerate(redemptions, start=2)]
    return make_run(org=world.org, key=str(uuid4()), name="returns.csv", rows=rows, made_by="meera")[0]


def checked_and_confirmed(run: BulkRun) -> BulkRun:
    assert check_some(run, made_by="meera") is None
    confirm(run, made_by="meera")
    return run


def said(response: HttpResponse) -> str:
    """The last message that the page shows after the response."""
    return [str(each) for each in get_messages(response.wsgi_request)][-1]


def statuses(run: BulkRun) -> list[str]:
    return list(
        BulkRow.objects.filter(org_id=run.org_id, run=run).order_by("position").values_list("status", flat=True)
    )


def assert_nothing_moved(world: World) -> None:
    assert not Reversal.objects.filter(org=world.org).exists()


RESULT_COLUMNS = [
    "redemption_id",
    "points asked",
    "points reversed",
    "of them expired",
    "status",
    "code",
    "reversal id",
    "outcome",
]


@pytest.mark.django_db
def test_an_uploaded_file_is_checked_confirmed_and_run(world: World, operator: Client) -> None:
    whole, part = redeemed(world, "7.5"), redeemed(world, 10)
    make_lot(world.asha, 4, program=world.program, expires_at=days_ago(1))
    expired = redeem(world.asha, 4, program=world.program, at=days_ago(2))
    run = upload(
        operator,
        world,
        f"{whole.public_id},,",
        f"{part.public_id},2.5,torn",
        f"{expired.public_id},4,",
        f"{part.public_id},1,",
        "nobody,1,",
        "R1,ten,",
    )
    assert (run.name, run.made_by, run.confirmed_at) == ("returns.csv", "meera", None)
    assert page(operator, run).context["task"]["is_at_work"]
    work()
    assert progress(operator, run) == {"done": 6, "all": 6, "finished": True, "notice": ""}
    assert_nothing_moved(world)
    preview = page(operator, run).context
    assert preview["facts"][3:] == [
        ("Rows ready", "3"),
        ("Rows not possible", "3"),
        ("Points to reverse", "14"),
        ("Points to expired lots", "4"),
        ("Rows that need approval", "0"),
    ]
    assert preview["task"]["buttons"][0] == ("run", "Reverse 3 rows, 14 points", "primary")

    assert step(operator, run, "run") == {"done": 3, "all": 3, "finished": True, "notice": ""}
    reversals = Reversal.objects.filter(org=world.org).order_by("id")
    assert [(each.redemption_id, each.points, each.reason, each.made_by, each.channel) for each in reversals] == [
        (whole.id, points("7.5"), "shop closed", "meera", Channel.BULK),
        (part.id, points("2.5"), "torn", "meera", Channel.BULK),
        (expired.id, points(4), "shop closed", "meera", Channel.BULK),
    ]
    run.refresh_from_db()
    assert (run.confirmed_by, run.confirmed_at is not None) == ("meera", True)
    assert page(operator, run).context["task"] is None

    ids = [each.public_id for each in reversals]
    missing = "There is no redemption with this id in the org. Check the redemption id."
    assert result(operator, run) == [
        RESULT_COLUMNS,
        [whole.public_id, "all", "7.5", "0", "reversed", "", ids[0], f"reversal {ids[0]}"],
        [part.public_id, "2.5", "2.5", "0", "reversed", "", ids[1], f"reversal {ids[1]}"],
        [expired.public_id, "4", "4", "4", "reversed", "", ids[2], f"reversal {ids[2]}"],
        [
            part.public_id,
            "1",
            "",
            "",
            "not possible",
            "",
            "",
            "line 5 repeats the redemption of line 3; put the points in one row",
        ],
        ["nobody", "1", "", "", "not possible", "804", "", f"Unable to process points reversal request. {missing}"],
        [
            "R1",
            "ten",
            "",
            "",
            "not possible",
            "",
            "",
            "points: expected a number, such as 12.5, or nothing for all remaining points",
        ],
    ]
    call_command("verify_ledger", "--org", str(world.org.id))


@pytest.mark.django_db
def test_running_again_changes_nothing(world: World, operator: Client) -> None:
    run = checked_and_confirmed(run_of(world, redeemed(world, 10), amount="2"))
    for _ in range(2):
        assert step(operator, run, "run") == {"done": 1, "all": 1, "finished": True, "notice": ""}
    assert Reversal.objects.get(org=world.org).points == 2


@pytest.mark.django_db
def test_runs_take_turns_in_short_steps(world: World, operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "STEP_SECONDS", 0)
    one, two = (run_of(world, *(redeemed(world, 1) for _ in range(3))) for _ in range(2))
    for run in (one, two):
        press(operator, run, "check")
    done = []
    for _ in range(6):
        work(steps=1)
        done.append((progress(operator, one)["done"], progress(operator, two)["done"]))
    assert done == [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3)]
    press(operator, one, "run")
    for made in (1, 2, 3):
        work(steps=1)
        assert progress(operator, one) == {"done": made, "all": 3, "finished": made == 3, "notice": ""}
    assert Reversal.objects.filter(org=world.org).count() == 3


@pytest.mark.django_db
def test_buttons_work_without_javascript(world: World, operator: Client) -> None:
    run = run_of(world, redeemed(world, 1), redeemed(world, 2))
    for name in ("check", "pause", "check", "work", "run", "pause", "run", "work"):
        if name == "work":
            work()
            continue
        address = reverse(f"admin:reversals_bulkrun_{name}", args=[run.pk])
        assert f'<form method="post" action="{address}"' in page(operator, run).content.decode()
        press(operator, run, name)
    assert statuses(run) == ["REVERSED", "REVERSED"]


@pytest.mark.django_db
def test_paused_run_stops_before_its_next_row_and_can_be_continued(
    world: World, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checked_and_confirmed(run_of(world, *(redeemed(world, 1) for _ in range(3))))
    reverse_row = manual_reversals.reverse

    def pause_meanwhile(wanted: Any) -> Any:
        press(operator, run, "pause")
        return reverse_row(wanted)

    monkeypatch.setattr(manual_reversals, "reverse", pause_meanwhile)
    assert step(operator, run, "run") == {"done": 1, "all": 3, "finished": True, "notice": "Paused by meera."}
    monkeypatch.undo()
    work()
    assert statuses(run) == ["REVERSED", "READY", "READY"]
    assert page(operator, run).context["task"]["buttons"][0][:2] == ("run", "Continue")
    assert step(operator, run, "run") == {"done": 3, "all": 3, "finished": True, "notice": ""}


@pytest.mark.django_db
def test_cancelled_run_never_continues(world: World, operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    run = checked_and_confirmed(run_of(world, *(redeemed(world, 1) for _ in range(3))))
    monkeypatch.setattr(runs, "STEP_SECONDS", 0)
    press(operator, run, "run")
    work(steps=1)
    press(operator, run, "cancel")
    work()
    response = press(operator, run, "run")
    assert said(response) == "Not possible: the run was cancelled."
    work()
    assert statuses(run) == ["REVERSED", "READY", "READY"]
    shown = page(operator, run).context
    assert (shown["task"], shown["facts"][3][0]) == (None, "Cancelled")
    assert [line[4] for line in result(operator, run)[1:]] == ["reversed", "cancelled", "cancelled"]


@pytest.mark.django_db
@pytest.mark.parametrize("lost", ["access", "role", "account"])
def test_run_stops_when_its_user_loses_the_right_to_it(
    world: World, operator: Client, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    run = checked_and_confirmed(run_of(world, *(redeemed(world, 1) for _ in range(2))))
    monkeypatch.setattr(runs, "STEP_SECONDS", 0)
    press(operator, run, "run")
    work(steps=1)
    user = User.objects.get(username="meera")
    if lost == "access":
        OrgAccess.objects.filter(user=user).delete()
    elif lost == "role":
        user.groups.clear()
    else:
        User.objects.filter(username="meera").update(is_active=False)
    work()
    assert statuses(run) == ["REVERSED", "READY"]
    arun = staff_of(world, "Reversal operator", username="arun")
    assert progress(arun, run)["notice"].startswith("meera may not make bulk reversals in this org any more.")
    assert step(arun, run, "run")["done"] == 2
    made_by = Reversal.objects.filter(org=world.org).order_by("id").values_list("made_by", flat=True)
    assert list(made_by) == ["meera", "arun"]


@pytest.mark.django_db
def test_page_says_that_no_worker_is_running(world: World, operator: Client) -> None:
    run = run_of(world, redeemed(world, 1))
    press(operator, run, "check")
    assert page(operator, run).context["task"]["notice"].startswith("No worker is running")


@pytest.mark.django_db
def test_the_next_run_recovers_from_a_crash_between_reversal_and_row_status(
    world: World, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checked_and_confirmed(run_of(world, redeemed(world, 10), amount="2"))
    with monkeypatch.context() as crash:
        crash.delattr(runs, "_reversal")
        with pytest.raises(NameError):
            run_some(run, made_by="meera")
    made = Reversal.objects.get(org=world.org)
    assert statuses(run) == ["READY"]
    # A second user runs it again. The reversal stays recorded under the first user.
    arun = staff_of(world, "Reversal operator", username="arun")
    assert step(arun, run, "run")["finished"]
    row = BulkRow.objects.get(org=world.org, run=run)
    assert (row.status, row.reversal, row.points) == ("REVERSED", made, 2)
    assert Reversal.objects.get(org=world.org).made_by == "meera"


@pytest.mark.django_db
def test_each_reversal_is_recorded_under_the_user_who_ran_it(
    world: World, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "STEP_SECONDS", 0)
    run = run_of(world, redeemed(world, 1), redeemed(world, 2))
    step(operator, run, "check")
    arun = staff_of(world, "Reversal operator", username="arun")
    press(operator, run, "run")
    work(steps=1)
    press(arun, run, "run")
    work()
    made_by = Reversal.objects.filter(org=world.org).order_by("id").values_list("made_by", flat=True)
    assert list(made_by) == ["meera", "arun"]


@pytest.mark.django_db
def test_checking_starts_automatically_under_the_name_of_the_user_who_uploaded(world: World, operator: Client) -> None:
    run = upload(operator, world, f"{redeemed(world, 1).public_id},,")
    arun = staff_of(world, "Reversal operator", username="arun")
    page(arun, run)
    work()
    assert progress(arun, run) == {"done": 1, "all": 1, "finished": True, "notice": ""}
    assert Attempt.objects.get(org=world.org, is_dry_run=True).made_by == "meera"


@pytest.mark.django_db
def test_rows_over_the_limit_wait_for_approval(world: World, operator: Client) -> None:
    set_value(world.org, LIMIT, "5")
    small, large = redeemed(world, 5), redeemed(world, 6)
    run = upload(operator, world, f"{small.public_id},,", f"{large.public_id},,")
    step(operator, run, "check")
    assert ("Rows that need approval", "1") in page(operator, run).context["facts"]
    assert step(operator, run, "run") == {"done": 2, "all": 2, "finished": True, "notice": ""}
    approval = Approval.objects.get(org=world.org)
    assert (approval.points, approval.asked_by, approval.channel) == (6, "meera", Channel.BULK)
    assert [line[2:5] for line in result(operator, run)[1:]] == [
        ["5", "0", "reversed"],
        ["", "", "waiting for approval"],
    ]
    assert approvals.approve(approval, decided_by="arun", comment="seen").error is None
    approval.refresh_from_db()
    assert result(operator, run)[2][2:] == [
        "6",
        "0",
        "approved",
        "",
        approval.reversal.public_id,
        "decided by arun: seen",
    ]
    assert step(operator, run, "run")["finished"]
    assert Reversal.objects.filter(org=world.org).count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["check", "run"])
def test_a_temporary_refusal_stops_the_step_and_the_next_step_continues(
    world: World, operator: Client, name: str
) -> None:
    run = run_of(world, redeemed(world, 1), redeemed(world, 2))
    if name == "run":
        checked_and_confirmed(run)
    set_value(world.org, PAUSED, "yes")
    stopped = step(operator, run, name)
    notice = stopped.pop("notice")
    assert stopped == {"done": 0, "all": 2, "finished": False}
    assert notice.startswith(
        "898 Points reversal currently unavailable. Reversals are paused for this org. Try again later."
        " It is tried again from "
    )
    assert statuses(run) == ["READY", "READY"]
    set_value(world.org, PAUSED, "no")
    assert step(operator, run, name) == {"done": 2, "all": 2, "finished": True, "notice": ""}


@pytest.mark.django_db
def test_a_final_refusal_is_recorded_and_does_not_stop_other_rows(world: World, operator: Client) -> None:
    taken, free = redeemed(world, 3), redeemed(world, 4)
    run = checked_and_confirmed(run_of(world, taken, free))
    world.reverse(taken)
    assert step(operator, run, "run") == {"done": 2, "all": 2, "finished": True, "notice": ""}
    assert statuses(run) == ["REFUSED", "REVERSED"]
    row = result(operator, run)[1]
    assert row[4:6] == ["refused", "902"]
    assert row[7].startswith("Duplicate reversal request. ")


@pytest.mark.django_db
def test_a_run_with_unchecked_rows_or_without_ready_rows_does_not_start(world: World, operator: Client) -> None:
    run = run_of(world, redeemed(world, 1))
    assert said(press(operator, run, "run")) == "Not possible: 1 row must still be checked; check all rows first."
    set_value(world.org, ON, "no")
    step(operator, run, "check")
    assert said(press(operator, run, "run")) == "Not possible: no row is ready to reverse."
    run.refresh_from_db()
    assert run.confirmed_at is None
    with pytest.raises(InvalidOperation):
        run_some(run, made_by="meera")
    assert_nothing_moved(world)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"file": SimpleUploadedFile("a.csv", b"id;points\n")}, "a.csv, line 1, column 1: &#x27;id&#x27; is unknown"),
        ({"file": SimpleUploadedFile("a.csv", b"x" * 1_000_001)}, "The file has 1,000,001 bytes"),
        ({"file": SimpleUploadedFile("a.csv", b"")}, "The submitted file is empty."),
        ({"file": ""}, "This field is required."),
        ({"reason": "w" * 501}, "at most 500 characters"),
        ({"org": "x"}, "Select a valid choice."),
    ],
)
def test_an_unreadable_upload_shows_the_reason(
    world: World, operator: Client, changes: dict[str, Any], problem: str
) -> None:
    response = send_file(operator, world, "R1,1,why", **changes)
    assert response.status_code == 200
    assert problem in response.content.decode()
    assert not BulkRun.objects.filter(org=world.org).exists()


@pytest.mark.django_db
def test_uploading_the_same_rows_again_opens_their_run(world: World, operator: Client) -> None:
    redemption = redeemed(world, 20)
    first = upload(operator, world, f"{redemption.public_id},7,torn")
    checked_and_confirmed(first)
    run_some(first, made_by="meera")
    renamed = SimpleUploadedFile("again.csv", f"reason;points;redemption_id\ntorn;7;{redemption.public_id}\n".encode())
    response = send_file(staff_of(world, "Reversal operator", username="arun"), world, file=renamed)
    assert response["Location"] == reverse("admin:reversals_bulkrun_change", args=[first.pk])
    assert said(response).startswith("meera uploaded the same rows on ")
    run_some(first, made_by="arun")
    assert Reversal.objects.get(org=world.org).points == 7


@pytest.mark.django_db
def test_the_same_rows_reversed_again_are_a_new_run_with_a_warning(world: World, operator: Client) -> None:
    line = f"{redeemed(world, 20).public_id},7,torn"
    first = upload(operator, world, line)
    checked_and_confirmed(first)
    run_some(first, made_by="meera")
    form = {"again": "on", "page": str(uuid4())}
    second = upload(operator, world, line, **form)
    assert second != first
    assert upload(operator, world, line, **form) == second
    assert check_some(second, made_by="meera") is None
    shown = page(operator, second).context
    assert shown["facts"][-1] == ("Ready rows whose redemption is in an earlier run", "1")
    [row] = shown["rows"]["rows"]
    assert row[-1] == f"the run returns.csv of {first.made_at:%Y-%m-%d} already reversed 7 points of this redemption"
    confirm(second, made_by="meera")
    run_some(second, made_by="meera")
    assert [reversal.points for reversal in Reversal.objects.filter(org=world.org)] == [7, 7]


@pytest.mark.django_db
def test_rows_for_all_remaining_points_or_of_another_org_have_no_warning(world: World, operator: Client) -> None:
    redemption = redeemed(world, 20)
    other = make_world()
    foreign = redeemed(other, 20)
    Redemption.objects.filter(id=foreign.id).update(public_id=redemption.public_id)
    for run in (run_of(world, redemption, amount="7"), run_of(world, redemption)):
        checked_and_confirmed(run)
        run_some(run, made_by="meera")
        assert set(BulkRow.objects.filter(run=run).values_list("status", flat=True)) == {"REVERSED"}
    theirs = run_of(other, Redemption.objects.get(id=foreign.id), amount="7")
    check_some(theirs, made_by="meera")
    assert BulkRow.objects.get(run=theirs).outcome == ""


@pytest.mark.usefixtures("committed", "on_postgresql")
def test_concurrent_uploads_of_one_file_create_one_run() -> None:
    world = make_world()
    rows = [FileRow(2, redeemed(world, 10).public_id, "2", "why")]

    def send() -> tuple[BulkRun, bool]:
        return make_run(org=world.org, key="page-1", name="a.csv", rows=rows, made_by="meera")

    runs = at_once([send] * 4)
    assert sorted(is_new for _, is_new in runs) == [False, False, False, True]
    assert BulkRow.objects.filter(org=world.org).count() == 1


def select(client: Client, *redemptions: Redemption, **form: str) -> HttpResponse:
    action = {"action": "reverse_in_bulk", "_selected_action": [each.pk for each in redemptions]}
    return client.post(reverse("admin:loyalty_redemption_changelist"), action | form)


@pytest.mark.django_db
def test_selected_redemptions_become_a_run(world: World, operator: Client) -> None:
    redemptions = [redeemed(world, 1), redeemed(world, 2)]
    asked = select(operator, *redemptions)
    assert asked.status_code == 200
    assert not BulkRun.objects.exists()
    page = asked.context["form"]["page"].value()
    response = select(operator, *redemptions, confirmed="yes", note="shop closed", page=page)
    run = BulkRun.objects.get(org=world.org)
    assert response["Location"] == reverse("admin:reversals_bulkrun_change", args=[run.pk])
    assert (run.name, run.made_by) == ("2 selected redemptions", "meera")
    rows = BulkRow.objects.filter(org=world.org, run=run)
    assert {(row.redemption_id, row.points_written, row.reason) for row in rows} == {
        (each.public_id, "", "shop closed") for each in redemptions
    }
    assert_nothing_moved(world)


@pytest.mark.django_db
def test_a_run_needs_redemptions_of_one_org_and_a_reason(world: World) -> None:
    mine, foreign = redeemed(world, 1), redeemed(make_world(), 1)
    for redemptions, reason in (([], "why"), ([mine, foreign], "why"), ([mine], " ")):
        with pytest.raises(InvalidOperation):
            start_from_redemptions(org=world.org, key="page-1", redemptions=redemptions, reason=reason, made_by="meera")
    assert not BulkRun.objects.exists()


@pytest.mark.django_db
def test_a_run_of_another_org_is_not_found(world: World, operator: Client) -> None:
    other = make_world()
    run = checked_and_confirmed(run_of(other, redeemed(other, 1)))
    assert page(operator, run).status_code == 302
    for name in ("check", "run", "pause", "cancel", "progress", "result"):
        address = reverse(f"admin:reversals_bulkrun_{name}", args=[run.pk])
        assert (operator.get(address).status_code, operator.post(address).status_code) == (404, 404)
    beyond = reverse("admin:reversals_bulkrun_run", args=[10**30])
    assert operator.post(beyond).status_code == 404
    assert send_file(operator, other, "R1,1,why").status_code == 200
    assert select(operator, Redemption.objects.get(org=other.org), confirmed="yes", note="x").status_code == 302
    assert BulkRun.objects.get() == run
    assert_nothing_moved(other)


@pytest.mark.django_db
@pytest.mark.parametrize("lacking", ["add_bulkrun", "add_reversal"])
def test_users_without_permission_can_view_but_not_run(world: World, lacking: str) -> None:
    run = checked_and_confirmed(run_of(world, redeemed(world, 1)))
    viewer = User.objects.create_user("vik", is_staff=True)
    rights = {"view_bulkrun", "view_redemption", "add_bulkrun", "add_reversal"} - {lacking}
    viewer.user_permissions.set(Permission.objects.filter(codename__in=rights))
    OrgAccess.objects.create(user=viewer, org=world.org)
    client = Client()
    client.force_login(viewer)
    assert page(client, run).context["task"] is None
    assert result(client, run)[1][4] == "ready"
    for name in ("check", "run", "pause", "cancel"):
        assert client.post(reverse(f"admin:reversals_bulkrun_{name}", args=[run.pk])).status_code == 403
    assert client.get(reverse("admin:reversals_bulkrun_add")).status_code == 403
    select(client, Redemption.objects.get(org=world.org), confirmed="yes", note="x")
    assert BulkRun.objects.get() == run
    assert_nothing_moved(world)


@pytest.mark.django_db
def test_steps_require_post_and_the_csrf_token(world: World, operator: Client) -> None:
    run = checked_and_confirmed(run_of(world, redeemed(world, 1)))
    address = reverse("admin:reversals_bulkrun_run", args=[run.pk])
    assert operator.get(address).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="meera"))
    assert strict.post(address).status_code == 403
    assert_nothing_moved(world)


@pytest.mark.django_db
def test_runs_cannot_be_changed_or_deleted(world: World, operator: Client) -> None:
    run = run_of(world, redeemed(world, 1))
    User.objects.filter(username="meera").update(is_superuser=True)
    assert operator.post(reverse("admin:reversals_bulkrun_change", args=[run.pk]), {"name": "x"}).status_code == 403
    assert operator.post(reverse("admin:reversals_bulkrun_delete", args=[run.pk]), {"post": "yes"}).status_code == 403
    assert BulkRun.objects.get().name == "returns.csv"


PAYLOAD = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.mark.django_db
def test_markup_in_a_file_is_escaped(world: World, operator: Client) -> None:
    file = SimpleUploadedFile(
        f"{PAYLOAD}.csv", b'redemption_id,points,reason\n"=HYPERLINK(1)",1,w\n<b>x,1,w\nR1,<i>,w\n'
    )
    run = upload(operator, world, file=file)
    step(operator, run, "check")
    text = page(operator, run).content.decode()
    listed = operator.get(reverse("admin:reversals_bulkrun_changelist")).content.decode()
    for unsafe in ("<script>alert", "<img src=x", "<b>x", "<i>"):
        assert unsafe not in text
        assert unsafe not in listed
    assert "&lt;b&gt;x" in text
    assert result(operator, run)[1][0] == "'=HYPERLINK(1)"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_cells_that_begin_like_a_formula_are_escaped(cell: str) -> None:
    assert inert(cell) == f"'{cell}"


@pytest.mark.django_db
def test_rows_are_shown_in_pages_and_by_status(world: World, operator: Client) -> None:
    rows = [FileRow(line, f"R{line}", "", "why", "bad" if line > 60 else "") for line in range(2, 122)]
    run, _ = make_run(org=world.org, key="many", name="many.csv", rows=rows, made_by="meera")
    first = page(operator, run).context
    assert (len(first["rows"]["rows"]), first["page"].paginator.num_pages) == (50, 3)
    assert len(page(operator, run, p=3).context["rows"]["rows"]) == 20
    bad = page(operator, run, status="INVALID", p=2).context["rows"]["rows"]
    assert [row[0] for row in bad] == list(range(111, 122))
    assert len(page(operator, run, status="x", p="y").context["rows"]["rows"]) == 50


@pytest.mark.django_db
def test_list_and_page_send_the_same_number_of_queries_for_many_rows_as_for_few(world: World, operator: Client) -> None:
    counted = []
    for _ in range(2):
        run = checked_and_confirmed(run_of(world, *(redeemed(world, 1) for _ in range(3 + 5 * len(counted)))))
        run_some(run, made_by="meera")
        for address in ("changelist", "change"):
            arguments = [run.pk] if address == "change" else []
            with CaptureQueriesContext(connection) as captured:
                assert operator.get(reverse(f"admin:reversals_bulkrun_{address}", args=arguments)).status_code == 200
            counted.append(len(captured))
    assert counted[:2] == counted[2:]
    listed = operator.get(reverse("admin:reversals_bulkrun_changelist")).content.decode()
    assert "3 reversed" in listed
    assert "13 reversed" in listed


@pytest.mark.usefixtures("committed", "on_postgresql")
def test_concurrent_runs_make_each_reversal_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "STEP_SECONDS", 30)  # enough for all rows on a slow cluster
    world = make_world()
    redemptions = [redeemed(world, 10) for _ in range(12)]
    run = checked_and_confirmed(run_of(world, *redemptions, amount="2"))
    assert at_once([lambda n=n: run_some(run, made_by=f"runner {n}") for n in range(4)]) == [None] * 4
    assert statuses(run) == ["REVERSED"] * 12
    assert Reversal.objects.filter(org=world.org).count() == 12
    assert set(Redemption.objects.filter(org=world.org).values_list("points_reversed", flat=True)) == {points(2)}
    assert sum(lot.points_remaining for lot in Lot.objects.filter(org=world.org)) == 24
    call_command("verify_ledger", "--org", str(world.org.id))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("customer", "status"),
    [
        ("", "READY"),
        ("{id}", "READY"),
        (" {id}\u200b", "READY"),
        ("098765 43210", "READY"),
        ("Asha@Example.com", "READY"),
        ("{other}", "INVALID"),
        ("ravi@example.com", "INVALID"),
        ("CARD-1", "INVALID"),
        ("9.87654E+09", "INVALID"),
    ],
)
def test_row_whose_customer_is_not_the_redemptions_customer_is_invalid(
    world: World, operator: Client, customer: str, status: str
) -> None:
    """A spreadsheet can make another redemption's id of an id: 4711 of 004711."""
    names = {"MOBILE": "9876543210", "EMAIL": "asha@example.com", "CARD_NUMBER": "CARD-1"}
    asha = make_customer(world.org, identifiers=names)
    other = make_customer(world.org, identifiers={"EMAIL": "ravi@example.com"})
    make_lot(asha, 5, program=world.program)
    redemption = redeem(asha, 5, program=world.program)
    value = customer.format(id=asha.public_id, other=other.public_id)
    file = SimpleUploadedFile(
        "returns.csv", f"redemption_id,points,reason,customer\n{redemption.public_id},1,why,{value}\n".encode()
    )
    run = upload(operator, world, file=file)
    assert statuses(run) == [status]
    outcome = BulkRow.objects.get(run=run).outcome
    assert ("customer is not the customer of this redemption" in outcome) == (status == "INVALID")
    assert "example.com" not in outcome


@pytest.mark.django_db
def test_row_may_name_any_customer_who_was_merged_into_the_redemptions_customer(world: World, operator: Client) -> None:
    chain = [make_customer(world.org), make_customer(world.org), world.asha]
    make_lot(chain[0], 5, program=world.program)
    redemption = redeem(chain[0], 5, program=world.program)
    for source, target in pairwise(chain):
        merge_customers(
            org=world.org,
            source_id=source.public_id,
            target_id=target.public_id,
            ticket="T-1",
            reason="twice",
            made_by="meera",
        )
    for customer in chain:
        row = f"redemption_id,points,reason,customer\n{redemption.public_id},1,why,{customer}\n"
        run = upload(operator, world, file=SimpleUploadedFile("returns.csv", row.encode()))
        assert statuses(run) == ["READY"]


@pytest.mark.django_db
def test_same_rows_with_another_customer_are_another_run(world: World, operator: Client) -> None:
    redemption = redeemed(world, 5)
    keys = set()
    for value in ("", "1", str(world.asha.public_id)):
        data = f"redemption_id,points,reason,customer\n{redemption.public_id},1,why,{value}\n".encode()
        keys.add(upload(operator, world, file=SimpleUploadedFile("returns.csv", data)).key)
    assert len(keys) == 3


# Reason codes


@pytest.fixture
def codes(world: World) -> None:
    for code in ("GOODS_RETURNED", "OTHER"):
        ReasonCode.objects.create(org=world.org, code=code, meaning=code)
    ReasonCode.objects.create(org=world.org, operation="CORRECT", code="WRONG_CUSTOMER", meaning="wrong")
    ReasonCode.objects.create(org=world.org, code="OLD", meaning="old", is_active=False)


def test_reason_of_each_row_is_a_reason_code_of_the_org(world: World, operator: Client, codes: None) -> None:
    reasons = ["goods_returned: receipt 4", "", "because", "OTHER", "WRONG_CUSTOMER", "OLD"]
    lines = [f"{redeemed(world).public_id},,{reason}" for reason in reasons]
    run = upload(operator, world, *lines, reason="other: shop closed")
    work()
    rows = list(BulkRow.objects.filter(run=run).order_by("position"))
    assert [row.reason for row in rows[:2]] == ["GOODS_RETURNED: receipt 4", "OTHER: shop closed"]
    assert [row.status for row in rows] == ["READY", "READY", *["INVALID"] * 4]
    expected = "reason: expected a reason code of the org (GOODS_RETURNED, OTHER), alone or with a note after a colon"
    assert [row.outcome for row in rows[2:]] == [
        expected,
        "reason: expected a note after the code, such as OTHER: what happened",
        expected,
        expected,
    ]
    shown = page(operator, run).content.decode()
    assert badge(Status("ready", "info")) in shown
    assert badge(Status("not possible", "danger")) in shown


def test_reason_for_rows_without_one_is_a_reason_code_of_the_org(world: World, operator: Client, codes: None) -> None:
    form = send_file(operator, world, "R1,1,", reason="because").context["form"]
    assert "GOODS_RETURNED, OTHER" in str(form.errors["reason"])
    assert "One of GOODS_RETURNED, OTHER" in form.fields["reason"].help_text


def test_list_of_runs_has_a_button_with_a_text_to_start_one(operator: Client, world: World) -> None:
    address = reverse("admin:reversals_bulkrun_changelist")
    shown = operator.get(address).content.decode()
    assert re.search(r'<a[^>]*href="/admin/reversals/bulkrun/add/[^>]*>\s*Reverse in bulk\s*</a>', shown)
    assert "/bulkrun/add/" not in staff_of(world, "Support", username="zoya").get(address).content.decode()
