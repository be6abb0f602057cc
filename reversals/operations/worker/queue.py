"""The queue of tasks: the table of django-tasks-db, with leases, retries and fencing, which its own worker lacks.

A worker holds its tasks as long as it reports. A worker that did not report for LOST_AFTER counts as dead, and another
one runs its tasks. The list of a task's workers is its fence: a worker that resumes too late changes nothing.
"""

import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django_tasks import TaskContext, TaskResultStatus
from django_tasks.base import Task
from django_tasks_db.models import DBTaskResult

from loyalty import maintenance
from reversals.models import WorkerProcess

logger = logging.getLogger(__name__)

# Two queues with a thread each, so that users do not wait for a verification of the whole ledger.
SCHEDULED, REQUESTED = QUEUES = ("scheduled", "requested")

REPORTS_EVERY = timedelta(seconds=10)
LOST_AFTER = timedelta(seconds=45)
MOST_TRIES = 8
FIRST_DELAY = timedelta(minutes=1)
LONGEST_DELAY = timedelta(hours=1)
# A task that returns this goes to the end of its queue and is run again, so that long tasks take turns.
UNFINISHED = "unfinished"

# Tasks that add proofs only.
RUN_IN_MAINTENANCE = {f"reversals.operations.worker.tasks.{name}" for name in ("seal_ledger", "verify_ledger")}

Row: TypeAlias = DBTaskResult[..., Any]
Status = TaskResultStatus


def report(worker_id: str, host: str) -> None:
    """Stores that the worker is alive, by the database's clock."""
    seen = {"seen_at": Now()}
    WorkerProcess.objects.update_or_create(
        id=worker_id, defaults=seen, create_defaults={"host": host, "started_at": Now()} | seen
    )


def leave(worker_id: str) -> None:
    """Removes a worker that ends, so that others run its unfinished tasks at once."""
    WorkerProcess.objects.filter(id=worker_id).delete()
    release_lost(worker_id, holding=())


def is_somebody_working() -> bool:
    """Returns whether a worker runs."""
    return WorkerProcess.objects.filter(seen_at__gte=Now() - LOST_AFTER).exists()


def release_lost(worker_id: str, *, holding: Collection[UUID]) -> None:
    """Makes the tasks of ended and lost workers ready for others.

    So are tasks of this worker that it is not `holding`, because it lost the database when it took or ended them.
    """
    WorkerProcess.objects.filter(seen_at__lt=Now() - LOST_AFTER).delete()
    running = list(DBTaskResult.objects.running())
    alive = set(WorkerProcess.objects.values_list("id", flat=True)) if running else set()
    long_ago = timezone.now() - LOST_AFTER
    for row in running:
        is_forgotten = row.worker_ids[-1] == worker_id and row.id not in holding and row.started_at < long_ago
        if is_forgotten or row.worker_ids[-1] not in alive:
            logger.warning("the worker of task %s ended before the task did", row.task_path)
            # The first time at once. Later ones wait, because the task itself may be what ends its workers.
            _try_again(row, "", "The worker ended before the task did.", failures=len(row.worker_ids) - 1)


def add(task: Task[..., Any], *arguments: Any) -> UUID:
    """Adds a task that is due now and returns its id. A task without a time would come after all others."""
    return UUID(task.using(run_after=timezone.now(), queue_name=REQUESTED).enqueue(*arguments).id)


def claim(queues: Sequence[str], worker_id: str) -> Row | None:
    """Takes the next task of these queues that is due, or returns None and writes nothing if no task is due.

    While maintenance is on, tasks wait, except the proofs of the ledger.
    """
    may_run = maintenance.is_off() | Q(task_path__in=RUN_IN_MAINTENANCE)
    due = DBTaskResult.objects.ready().filter(may_run, queue_name__in=queues)
    while (row := due.first()) is not None:
        before, row.status, row.worker_ids = _held(row), Status.RUNNING, [*row.worker_ids, worker_id]
        if before.update(status=row.status, started_at=timezone.now(), worker_ids=row.worker_ids):
            return row
    return None


def run(row: Row) -> None:
    """Runs a claimed task and records its result, or when it is tried again."""
    try:
        context: list[Any] = [TaskContext(task_result=row.task_result)] if row.task.takes_context else []  # type: ignore[arg-type]
        value = row.task.func(*context, *row.args_kwargs["args"], **row.args_kwargs["kwargs"])
    except Exception as error:
        logger.exception("task %s failed", row.task_path)
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        _try_again(row, name, str(error)[:500] or name, failures=len(row.worker_ids))
        return
    if value == UNFINISHED:
        result: dict[str, Any] = {"status": Status.READY, "run_after": timezone.now(), "worker_ids": []}
    else:
        result = {"status": Status.SUCCESSFUL, "finished_at": timezone.now(), "return_value": value}
    _held(row).update(**result, exception_class_path="", traceback="")


def note_progress(context: TaskContext, progress: dict[str, Any]) -> None:
    """Stores the progress of a running task, where its result will be."""
    task = context.task_result
    held = DBTaskResult.objects.filter(id=task.id, status=Status.RUNNING, worker_ids=task.worker_ids)
    held.update(return_value=progress)


def run_again(ids: Collection[UUID]) -> int:
    """Makes failed tasks, and those that wait for their next try, due now. Returns their number."""
    again = {"status": Status.READY, "run_after": timezone.now(), "finished_at": None, "worker_ids": []}
    return failing().filter(id__in=ids).update(**again)


def failing() -> QuerySet[Row]:
    """Returns the tasks whose last try failed: those that are tried again and those that were given up."""
    return DBTaskResult.objects.filter(status__in=[Status.READY, Status.FAILED]).exclude(traceback="")


def unfinished(task_path: str) -> QuerySet[Row]:
    """Returns the tasks of this kind that run or will run."""
    return DBTaskResult.objects.filter(task_path=task_path, status__in=[Status.READY, Status.RUNNING])


def purge(*, before: datetime) -> int:
    """Removes old tasks that have ended. Returns their number."""
    return DBTaskResult.objects.finished().filter(finished_at__lt=before).delete()[0]


def _held(row: Row) -> QuerySet[Row]:
    """Returns the row if nobody has changed who holds it."""
    return DBTaskResult.objects.filter(id=row.id, status=row.status, worker_ids=row.worker_ids)


def _try_again(row: Row, exception: str, reason: str, *, failures: int) -> None:
    """Makes the task ready after a wait that doubles with each failure, or failed after the last try."""
    now = timezone.now()
    is_last = len(row.worker_ids) >= MOST_TRIES
    wait = min(FIRST_DELAY * 2 ** (failures - 1), LONGEST_DELAY) if failures else timedelta(0)
    _held(row).update(
        status=Status.FAILED if is_last else Status.READY,
        run_after=now + wait,
        finished_at=now if is_last else None,
        exception_class_path=exception,
        traceback=reason,
        return_value=None,
    )
