"""Works on bulk runs in the background, in short steps, until all rows are done or somebody pauses or cancels the run.

A run names the task that works on it. Starting it again names another one, so the former task ends at its next row.
"""

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django_tasks import TaskContext, task
from django_tasks_db.models import DBTaskResult

from loyalty.errors import InvalidOperation
from loyalty.staff.access import may_work_on
from reversals.manual.bulk import runs
from reversals.models import BulkRun
from reversals.operations.worker import queue

RIGHTS = ("reversals.add_bulkrun", "reversals.add_reversal")


class RowWaits(Exception):
    """A row is refused for now, such as while reversals are paused. The queue tries again later."""


@transaction.atomic
def start(run: BulkRun, *, made_by: str) -> None:
    """Lets the worker check the run's rows, or make its reversals if it is confirmed, under this user's name."""
    if run.cancelled_by:
        raise InvalidOperation("the run was cancelled")
    task_id = queue.add(work_on_bulk_run, run.org_id, run.id)
    _as_stored(run).update(task=task_id, worked_by=made_by, notice="")
    run.refresh_from_db()


def pause(run: BulkRun, *, made_by: str) -> None:
    """Stops the run before its next row, until somebody starts it again."""
    _as_stored(run).filter(task__isnull=False).update(task=None, notice=f"Paused by {made_by}.")


def cancel(run: BulkRun, *, made_by: str) -> None:
    """Stops the run before its next row for good. What it has reversed stays reversed."""
    if runs.totals_of(run).ready_or_unchecked:
        _as_stored(run).filter(cancelled_by="").update(
            task=None, notice="", cancelled_by=made_by, cancelled_at=timezone.now()
        )


def is_at_work(run: BulkRun) -> bool:
    """Returns whether the worker works on the run, or will do so."""
    return (
        run.task is not None and DBTaskResult.objects.filter(id=run.task).exclude(status=queue.Status.FAILED).exists()
    )


@task(queue_name=queue.REQUESTED, takes_context=True)
def work_on_bulk_run(context: TaskContext, org_id: int, run_id: int) -> str | None:
    """Takes one step of the run. Checks first that the user who started it may still do so."""
    wanted = BulkRun.objects.filter(org_id=org_id, id=run_id, task=context.task_result.id)
    run = wanted.first()
    if run is None:
        return None
    username = run.worked_by
    user = User.objects.filter(username=username, is_active=True, is_staff=True).first()
    if user is None or not user.has_perms(RIGHTS) or not may_work_on(user, org_id):
        notice = f"{username} may not make bulk reversals in this org any more. Another user can continue."
        wanted.update(task=None, notice=notice)
        return None
    step = runs.check_some if run.confirmed_at is None else runs.run_some
    refusal = step(run, made_by=username, is_wanted=wanted.exists)
    notice = "" if refusal is None else f"{refusal.error.code} {refusal.error.message}. {refusal.reason}"
    wanted.update(notice=notice)
    if refusal is not None:
        raise RowWaits(notice)
    totals = runs.totals_of(run)
    if totals.unchecked if run.confirmed_at is None else totals.ready:
        return queue.UNFINISHED
    wanted.update(task=None)
    return None


def _as_stored(run: BulkRun) -> QuerySet[BulkRun]:
    return BulkRun.objects.filter(org_id=run.org_id, id=run.id)
