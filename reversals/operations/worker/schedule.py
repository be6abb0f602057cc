"""When each scheduled task runs. docs/deployment.md has the same table for people."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from django_tasks.base import Task
from django_tasks_db.models import DBTaskResult

from reversals.operations.worker import queue, tasks

_SLOTS = UUID("5cbf4bd2-2b9c-4b59-8a3c-8f0e8b1f9f0e")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A task that runs once in each interval since 1970, which begins at `at`, in UTC."""

    task: Task[Any, Any]
    every: timedelta
    at: timedelta = timedelta(0)

    def slot(self, now: datetime) -> UUID:
        """Returns the id of the task for the interval of this moment, which is the same for every worker."""
        number = (now.timestamp() - self.at.total_seconds()) // self.every.total_seconds()
        return uuid5(_SLOTS, f"{self.task.module_path} {self.every} {number:.0f}")


SCHEDULE = (
    Scheduled(tasks.examine_setup, timedelta(minutes=5)),
    Scheduled(tasks.send_emails, timedelta(minutes=1)),
    Scheduled(tasks.seal_ledger, HOUR),
    Scheduled(tasks.verify_ledger, DAY, at=timedelta(hours=3)),
    Scheduled(tasks.count_totals, DAY, at=timedelta(minutes=15)),
    Scheduled(tasks.purge_attempts, DAY, at=timedelta(hours=2)),
    Scheduled(tasks.purge_addresses, DAY, at=timedelta(hours=2)),
    Scheduled(tasks.purge_events, DAY, at=timedelta(hours=2)),
    Scheduled(tasks.purge_exports, DAY, at=timedelta(hours=2)),
    Scheduled(tasks.clear_sessions, DAY, at=timedelta(hours=2)),
    Scheduled(tasks.purge_tasks, DAY, at=timedelta(hours=2)),
)


class Schedule:
    """Adds each scheduled task once in each interval, however many workers do so.

    A task whose interval passed without a worker is added when a worker starts. A task is not added while the one of
    an earlier interval still runs or is tried again.
    """

    def __init__(self) -> None:
        self._added: set[UUID] = set()

    def add_due(self, now: datetime) -> None:
        slots = {each.slot(now): each for each in SCHEDULE}
        for slot in slots.keys() - self._added:
            task = slots[slot].task
            if not queue.unfinished(task.module_path).exists():
                row: queue.Row = DBTaskResult(
                    id=slot,
                    args_kwargs={"args": [], "kwargs": {}},
                    priority=task.priority,
                    task_path=task.module_path,
                    queue_name=task.queue_name,
                    backend_name=task.backend,
                    run_after=now,
                )
                DBTaskResult.objects.bulk_create([row], ignore_conflicts=True)
        self._added = set(slots)
