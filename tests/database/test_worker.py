"""The worker's queue: leases, retries, the schedule, and what its tasks do."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from reversals.models import Attempt, DayTotals, LedgerCheck, WorkerProcess
from reversals.movements import attempts
from reversals.operations.worker import queue, tasks
from reversals.operations.worker.queue import QUEUES, Status
from reversals.operations.worker.schedule import SCHEDULE, Schedule
from reversals.operations.worker.worker import Worker
from tests.builders import World, days_ago, make_task, redeemed, utc

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_tasks(db: None) -> None:
    DBTaskResult.objects.all().delete()
    WorkerProcess.objects.all().delete()


@pytest.fixture(autouse=True)
def _anchor(settings: Any, tmp_path: Any) -> None:
    settings.LEDGER_ANCHOR = tmp_path / "ledger.anchor"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(tasks, "call_command", fail)


def run_next(worker: str = "one") -> queue.Row:
    """Runs the next task and returns its row as stored."""
    row = queue.claim(QUEUES, worker)
    assert row is not None
    queue.run(row)
    row.refresh_from_db()
    return row


def due_again(row: queue.Row) -> timedelta:
    return row.run_after - timezone.now()


def test_scheduled_task_is_added_once_in_its_interval_by_two_workers() -> None:
    now = utc("2026-05-10 12:10")
    for _ in range(2):
        Schedule().add_due(now)
    assert DBTaskResult.objects.count() == len(SCHEDULE)
    DBTaskResult.objects.update(status=Status.SUCCESSFUL)
    Schedule().add_due(now)
    ready = DBTaskResult.objects.filter(status=Status.READY)
    assert not ready.exists()
    Schedule().add_due(now + timedelta(hours=1))
    often = {each.module_path for each in (tasks.seal_ledger, tasks.examine_setup, tasks.send_emails)}
    assert {row.task_path for row in ready.all()} == often


def test_scheduled_task_is_not_added_while_the_former_one_is_tried_again() -> None:
    schedule = Schedule()
    schedule.add_due(timezone.now())
    schedule.add_due(timezone.now() + timedelta(days=1))
    assert DBTaskResult.objects.count() == len(SCHEDULE)


def test_schedule_reads_nothing_while_no_interval_begins() -> None:
    schedule, now = Schedule(), timezone.now()
    schedule.add_due(now)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        schedule.add_due(now)
    assert len(queries) == 0


@pytest.mark.once
def test_work_once_runs_every_scheduled_task(world: World) -> None:
    world.reverse(redeemed(world, 10))
    Session.objects.create(session_key="ended", session_data="", expire_date=days_ago(1))
    call_command("work", "--once", "--json")
    assert set(DBTaskResult.objects.values_list("status", "traceback")) == {(Status.SUCCESSFUL.value, "")}
    assert LedgerCheck.objects.latest("finished_at").org is None
    assert not Session.objects.filter(session_key="ended").exists()
    assert DayTotals.objects.filter(org=world.org).exists()
    assert not WorkerProcess.objects.exists()


@pytest.mark.parametrize(("kept_days", "is_kept"), [(0, True), (30, False), (400, True)])
def test_attempts_are_purged_by_the_retention_setting(
    world: World, settings: Any, kept_days: int, is_kept: bool
) -> None:
    settings.ATTEMPTS_KEPT_FOR_DAYS = kept_days
    world.reverse(redeemed(world, 10), 99)
    Attempt.objects.filter(org=world.org).update(created_at=days_ago(100))
    make_task(task_path=tasks.purge_attempts.module_path)
    run_next()
    assert Attempt.objects.filter(org=world.org).exists() is is_kept


@pytest.mark.parametrize(("kept_days", "kept"), [(0, ["127.0.0.1"] * 2), (30, [None, "127.0.0.1"])])
def test_client_addresses_are_removed_from_old_attempts_by_the_retention_setting(
    world: World, settings: Any, monkeypatch: pytest.MonkeyPatch, kept_days: int, kept: list[str | None]
) -> None:
    settings.ATTEMPT_ADDRESSES_KEPT_FOR_DAYS = kept_days
    monkeypatch.setattr(attempts, "PURGED_AT_ONCE", 1)
    redemption = redeemed(world, 10)
    replies = [world.reverse(redemption, 1, key="key-1").content for _ in range(2)]
    Attempt.objects.filter(org=world.org).update(created_at=days_ago(31))
    world.reverse(redemption, 1)
    make_task(task_path=tasks.purge_addresses.module_path)
    run_next()
    rows = Attempt.objects.filter(org=world.org).order_by("created_at")
    assert list(rows.values_list("address", flat=True)) == kept
    assert world.reverse(redemption, 1, key="key-1").content == replies[0] == replies[1]


def test_idle_worker_writes_nothing() -> None:
    make_task(run_after=timezone.now() + timedelta(minutes=1))
    with CaptureQueriesContext(connection) as queries:
        assert queue.claim(QUEUES, "one") is None
    assert [query["sql"].split()[0] for query in queries] == ["SELECT"]


def test_task_is_claimed_by_one_of_two_workers_that_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    stale = [DBTaskResult.objects.get(id=task.id), None]
    assert queue.claim(QUEUES, "one") is not None
    ready = DBTaskResult.objects.ready()
    monkeypatch.setattr(type(ready), "first", lambda rows: stale.pop(0))
    assert queue.claim(QUEUES, "two") is None
    monkeypatch.undo()
    task.refresh_from_db()
    assert task.worker_ids == ["one"]


def test_failing_task_is_tried_again_with_growing_pauses_then_given_up(failing: None) -> None:
    task = make_task()
    waits = []
    for _ in range(queue.MOST_TRIES):
        row = run_next()
        waits.append(round(due_again(row) / timedelta(minutes=1)))
        DBTaskResult.objects.filter(id=task.id).update(run_after=timezone.now())
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert (row.status, row.exception_class_path, row.traceback) == (
        Status.FAILED,
        "builtins.OSError",
        "the disk is full",
    )
    assert queue.claim(QUEUES, "one") is None
    assert [each.id for each in queue.failing()] == [task.id]


def test_task_that_was_given_up_is_run_again_with_all_tries(failing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(status=Status.FAILED, traceback="the disk is full", worker_ids=["one"] * 8)
    assert queue.run_again([task.id, uuid4()]) == 1
    monkeypatch.undo()
    row = run_next()
    assert (row.status, row.traceback, row.worker_ids) == (Status.SUCCESSFUL, "", ["one"])


def test_task_that_is_not_failing_is_not_run_again() -> None:
    done = make_task(status=Status.SUCCESSFUL)
    assert queue.run_again([done.id, make_task().id]) == 0


def test_task_of_a_lost_worker_is_run_by_another_one() -> None:
    queue.report("killed", "host")
    queue.report("two", "host")
    task = make_task()
    late = queue.claim(QUEUES, "killed")
    assert late is not None
    queue.release_lost("two", holding=())
    assert queue.claim(QUEUES, "two") is None

    WorkerProcess.objects.filter(id="killed").update(seen_at=timezone.now() - queue.LOST_AFTER - timedelta(seconds=1))
    queue.release_lost("two", holding=())
    assert run_next("two").status == Status.SUCCESSFUL
    DBTaskResult.objects.filter(id=task.id).update(return_value="of two")
    queue.run(late)
    task.refresh_from_db()
    assert (task.worker_ids, task.return_value) == (["killed", "two"], "of two")


def test_task_that_ends_its_workers_waits_longer_each_time() -> None:
    task = make_task()
    waits = []
    for _ in range(3):
        queue.claim(QUEUES, "killed")
        queue.release_lost("two", holding=())
        task.refresh_from_db()
        waits.append(round(due_again(task) / timedelta(minutes=1)))
        DBTaskResult.objects.filter(id=task.id).update(run_after=timezone.now())
    assert waits == [0, 1, 2]


def test_worker_that_leaves_gives_its_tasks_to_others_at_once() -> None:
    queue.report("one", "host")
    make_task()
    queue.claim(QUEUES, "one")
    queue.leave("one")
    assert run_next("two").status == Status.SUCCESSFUL


def test_task_that_the_worker_forgot_when_the_database_failed_is_run_again() -> None:
    queue.report("one", "host")
    task = make_task()
    row = queue.claim(QUEUES, "one")
    assert row is not None
    DBTaskResult.objects.filter(id=task.id).update(started_at=timezone.now() - queue.LOST_AFTER * 2)
    queue.release_lost("one", holding={task.id})
    assert queue.claim(QUEUES, "one") is None
    queue.release_lost("one", holding=())
    assert queue.claim(QUEUES, "one") is not None


def test_task_of_an_unknown_name_fails() -> None:
    make_task(task_path="reversals.operations.worker.tasks.gone")
    assert "gone" in run_next().traceback


def test_loop_of_the_worker_begins_again_after_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("reversals.operations.worker.worker.SECONDS_AFTER_AN_ERROR", 0)
    monkeypatch.setattr("reversals.operations.worker.worker.connection", type("Closed", (), {"close": lambda: None}))
    worker, tries = Worker(), []

    def loop() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("gone")
        worker.stop()

    worker._keep_on(loop)
    assert len(tries) == 2
    assert "the worker failed" in caplog.text


def test_document_of_the_worker_lists_every_task_with_its_interval(settings: Any) -> None:
    table = (settings.BASE_DIR / "docs" / "worker.md").read_text()

    def minutes(number: int) -> timedelta:
        return timedelta(minutes=number)

    for each in SCHEDULE:
        often = {minutes(1): "every minute", minutes(5): "every 5 minutes", minutes(60): "each hour"}
        interval = often.get(each.every) or f"each day, from 0{each.at} UTC"[:-7] + " UTC"
        name = each.task.name.replace("_", " ").capitalize()
        assert f"| {name} | {interval}" in table
