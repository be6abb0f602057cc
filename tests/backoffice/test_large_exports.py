"""Exports that the worker writes: complete, once, and only for the user who asked and while the user may export."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from loyalty.models import OrgAccess, Redemption, StaffChange
from reversals.models import Attempt, Export, ExportPart
from reversals.operations.worker import queue, tasks
from tests.builders import World, make_world, redeemed, staff_of, work

pytestmark = pytest.mark.django_db
ROWS = 7
LISTS = ["loyalty_redemption", "reversals_attempt"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes parts of two rows, and leaves more than two rows to the worker."""
    monkeypatch.setattr("reversals.admin.export.ROWS_AT_ONCE", 1)
    monkeypatch.setattr("reversals.admin.large_exports.CHUNKS_IN_A_PART", 2)
    monkeypatch.setattr("reversals.admin.exports.MOST_ROWS_AT_ONCE", 2)
    DBTaskResult.objects.all().delete()


@pytest.fixture
def auditor(world: World) -> Client:
    at = timezone.now()
    for _ in range(ROWS):
        redemption = redeemed(world)
        Attempt.objects.create(
            org=world.org, created_at=at, channel="API", made_by="x", redemption_id_asked=redemption.public_id
        )
    return staff_of(world, "Auditor")


def ask(client: Client, name: str = "loyalty_redemption", **filters: Any) -> Export:
    response = client.post(reverse(f"admin:{name}_export", query=filters))
    assert response.status_code == 302
    return Export.objects.latest("asked_at")


def download(client: Client, export: Export) -> Any:
    return client.post(reverse("admin:export_download", args=[export.id]))


def ids(response: Any) -> list[str]:
    assert response.status_code == 200
    content = b"".join(response.streaming_content)
    assert len(content) == int(response["Content-Length"])
    return [row["redemption_id"] for row in csv.DictReader(io.StringIO(content.decode("utf-8-sig")))]


def page(client: Client) -> str:
    return client.get(reverse("admin:exports")).content.decode()


@pytest.mark.parametrize("name", LISTS)
def test_large_export_is_complete_and_recorded_once(world: World, auditor: Client, name: str) -> None:
    export = ask(auditor, name)
    ask(auditor, name)
    assert Export.objects.count() == StaffChange.objects.filter(org=world.org).count() == 1
    assert "Exports</a> shows it" in auditor.get(reverse("admin:index")).content.decode()
    assert "No worker is running" in page(auditor)
    assert download(auditor, export).status_code == 404
    work(steps=2)
    export.refresh_from_db()
    assert (export.status, export.rows) == ("RUNNING", 4)
    assert "No worker is running" not in page(auditor)
    work()
    own = Redemption.objects.filter(org=world.org).values_list("public_id", flat=True)
    assert sorted(ids(download(auditor, export))) == sorted(own)
    assert "Download" in page(auditor)


def test_worker_that_ends_between_parts_leaves_no_row_twice(world: World, auditor: Client) -> None:
    export = ask(auditor)
    work(steps=1)
    queue.claim([queue.REQUESTED], "killed")
    DBTaskResult.objects.update(started_at=timezone.now() - timedelta(minutes=5))
    queue.release_lost("one", holding=())
    work()
    assert len(ids(download(auditor, export))) == ROWS
    with pytest.raises(IntegrityError), transaction.atomic():
        ExportPart.objects.create(export=export, number=1, rows=0, size=0, content=b"")


def test_number_of_rows_that_fills_the_last_part_is_complete(world: World, auditor: Client) -> None:
    redeemed(world)
    export = ask(auditor)
    work()
    assert len(ids(download(auditor, export))) == ROWS + 1


@pytest.mark.parametrize("lost", ["role", "org"])
def test_user_who_lost_right_or_org_gets_no_file(world: World, auditor: Client, lost: str) -> None:
    ready = ask(auditor)
    work()
    waiting = ask(auditor)
    user = User.objects.get(username="meera")
    OrgAccess.objects.create(user=user, org=make_world().org)
    _ = user.groups.clear() if lost == "role" else OrgAccess.objects.filter(user=user, org=world.org).delete()
    work()
    waiting.refresh_from_db()
    assert (waiting.status, waiting.rows) == ("FAILED", 0)
    assert download(auditor, ready).status_code == (403 if lost == "role" else 404)


def test_user_who_may_no_longer_see_the_list_gets_no_file(world: World, auditor: Client) -> None:
    export = ask(auditor)
    work()
    for group in Group.objects.filter(name="Auditor"):
        group.permissions.remove(group.permissions.get(codename="view_redemption"))
    assert download(auditor, export).status_code == 403


def test_export_of_another_user_is_not_found(world: World, auditor: Client) -> None:
    export = ask(auditor)
    work()
    other = staff_of(world, "Auditor", username="ravi")
    assert download(other, export).status_code == 404
    assert "No exports." in page(other)


def test_export_holds_the_org_and_filters_of_the_page(world: World, auditor: Client) -> None:
    stranger = make_world()
    redeemed(stranger)
    assert ask(auditor, org=stranger.org.id).org == world.org
    Attempt.objects.filter(org=world.org).update(rule="BUSY")
    Attempt.objects.create(org=world.org, created_at=timezone.now(), channel="API", made_by="x")
    export = ask(auditor, "reversals_attempt", rule="BUSY")
    work()
    assert len(ids(download(auditor, export))) == ROWS


def test_expired_exports_are_purged_with_their_parts(world: World, auditor: Client) -> None:
    old, new = ask(auditor), ask(auditor, "reversals_attempt")
    work()
    Export.objects.filter(id=old.id).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert tasks.purge_exports.func() == {"removed": 1}
    assert set(ExportPart.objects.values_list("export_id", flat=True)) == {new.id}


def test_export_that_fails_is_shown(world: World, auditor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(auditor)
    monkeypatch.setattr("reversals.admin.large_exports._shown", lambda export: 1 / 0)
    work()
    assert "failed; tried again from" in page(auditor)
