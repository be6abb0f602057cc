"""Checks of the ledger from the home page, and failing tasks on it and on their own page."""

import pytest
from django.urls import reverse
from django_tasks import TaskContext

from loyalty.models import StaffChange
from reversals.models import LedgerCheck
from reversals.operations.worker import queue, tasks
from tests.builders import World, make_task, staff_of


@pytest.mark.django_db
def test_ledger_is_checked_on_the_page_and_shows_progress_and_result(world: World) -> None:
    client = staff_of(world, "Back-end team")
    assert "Check now" in client.get("/admin/").content.decode()
    for _ in range(2):
        assert client.post(reverse("admin:reversals_ledgercheck_verify")).status_code == 302
    [task] = queue.unfinished(tasks.verify_ledger.module_path)
    shown = client.get("/admin/").content.decode()
    assert "Check now" not in shown
    assert "No worker is running, so the check waits." in shown
    queue.report("one", "host")
    row = queue.claim([queue.REQUESTED], "one")
    assert row is not None
    queue.note_progress(TaskContext(task_result=row.task_result), {"done": 3, "of": 9})
    progress = client.get(reverse("admin:reversals_ledgercheck_progress")).json()
    assert progress == {"done": 3, "all": 9, "working": True, "notice": ""}
    queue.run(row)
    assert not client.get(reverse("admin:reversals_ledgercheck_progress")).json()["working"]
    assert "Check now" in client.get("/admin/").content.decode()
    assert LedgerCheck.objects.filter(org=None).exists()
    task.refresh_from_db()
    assert task.status == queue.Status.SUCCESSFUL


@pytest.mark.django_db
def test_home_shows_failing_tasks_and_a_missing_worker(world: World) -> None:
    client = staff_of(world, "Auditor")
    assert "no worker runs" in client.get("/admin/").content.decode()
    queue.report("one", "host")
    make_task(traceback="the disk is full")
    shown = client.get("/admin/").content.decode()
    assert "1 failing" in shown
    assert "no worker runs" not in shown
    assert "the disk is full" in client.get("/admin/django_tasks_database/dbtaskresult/?failing=yes").content.decode()


@pytest.mark.django_db
def test_failed_task_is_run_again_from_its_page_and_recorded(world: World) -> None:
    task = make_task(traceback="the disk is full", status=queue.Status.FAILED, worker_ids=["one"] * 8)
    chosen = {"action": "run_again", "_selected_action": [task.pk]}
    staff_of(world, "Back-end team").post("/admin/django_tasks_database/dbtaskresult/", chosen)
    task.refresh_from_db()
    assert (task.status, task.worker_ids) == (queue.Status.READY, [])
    assert StaffChange.objects.get(subject="django_tasks_database.dbtaskresult").made_by == "meera"
