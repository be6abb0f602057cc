"""The tasks of the schedule. Each may be ended at any moment and run again."""

import logging
from contextlib import closing, suppress
from datetime import timedelta
from threading import Thread
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.utils import timezone
from django_tasks import TaskContext, task
from django_tasks_db.models import DBTaskResult

from loyalty.models import Org
from reversals.assurance import ledger_check
from reversals.assurance.sealing import seals
from reversals.models import Export, Seal
from reversals.movements import attempts
from reversals.operations import daily_totals, notices
from reversals.operations.doctor import examination
from reversals.operations.doctor.findings import Status
from reversals.operations.worker import queue
from reversals.webhooks import outbox

logger = logging.getLogger(__name__)

TOTALS_OF_DAYS = 180  # the longest period of the home page, and the one before it
ENDED_TASKS_ARE_KEPT_FOR = timedelta(days=30)


@task(queue_name=queue.SCHEDULED)
def seal_ledger() -> dict[str, int]:
    """Seals what is not sealed yet and appends the seals to the anchor."""
    sealed = seals.seal_ledger(settings.LEDGER_ANCHOR)
    return {"seals": sealed.seals, "rows": sealed.rows}


@task(queue_name=queue.SCHEDULED, takes_context=True)
def verify_ledger(context: TaskContext) -> dict[str, int]:
    """Checks every law and every seal over all orgs, with the anchor."""

    def note(done: int, of: int) -> None:
        progress = {"done": done, "of": of}
        if connection.in_atomic_block:
            queue.note_progress(context, progress)
            return
        # The check reads a snapshot. In it PostgreSQL writes nothing, and SQLite nothing after another process wrote.
        thread = Thread(target=_note_elsewhere, args=[context, progress])
        thread.start()
        thread.join()

    # Before the first seal there is no anchor.
    anchor = settings.LEDGER_ANCHOR if Seal.objects.exists() else None
    check = ledger_check.check_ledger(anchor=anchor, progress=note)
    for problem in check.broken:
        logger.error("ledger check: %s", problem)
    return {"broken": len(check.broken)}


def _note_elsewhere(context: TaskContext, progress: dict[str, Any]) -> None:
    """Notes the progress on the connection of this thread. A progress that is not noted is no failure of the check."""
    with suppress(DatabaseError), closing(connection):
        queue.note_progress(context, progress)


def request_check() -> None:
    """Lets the worker check the ledger now. A check that runs already is not begun again."""
    under_way = queue.unfinished(verify_ledger.module_path)
    if under_way.exists():
        queue.run_again(list(under_way.values_list("id", flat=True)))
    else:
        queue.add(verify_ledger)


def check_under_way() -> dict[str, Any] | None:
    """Returns the parts that are done, the number of all parts, and a notice; None if no check runs or waits."""
    row = queue.unfinished(verify_ledger.module_path).order_by("-status").first()
    if row is None:
        return None
    progress = row.return_value or {"done": 0, "of": ledger_check.PARTS}
    notice = "" if queue.is_somebody_working() else "No worker is running, so the check waits."
    if row.traceback:
        notice = f"The check failed and is tried again from {row.run_after:%H:%M} UTC: {row.traceback}"
    return {"done": progress["done"], "all": progress["of"], "working": True, "notice": notice}


@task(queue_name=queue.SCHEDULED)
def count_totals() -> None:
    """Counts the days that are over, so that the home page need not."""
    org_ids = list(Org.objects.values_list("id", flat=True))
    daily_totals.totals_of(org_ids, days=TOTALS_OF_DAYS, now=timezone.now())


@task(queue_name=queue.SCHEDULED)
def purge_attempts() -> dict[str, int] | None:
    """Removes attempts that are older than ATTEMPTS_KEPT_FOR_DAYS; 0 keeps them."""
    days = settings.ATTEMPTS_KEPT_FOR_DAYS
    return {"removed": attempts.purge(before=timezone.now() - timedelta(days=days))} if days else None


@task(queue_name=queue.SCHEDULED)
def purge_addresses() -> dict[str, int] | None:
    """Removes client addresses from attempts that are older than ATTEMPT_ADDRESSES_KEPT_FOR_DAYS; 0 keeps them."""
    days = settings.ATTEMPT_ADDRESSES_KEPT_FOR_DAYS
    return {"removed": attempts.forget_addresses(before=timezone.now() - timedelta(days=days))} if days else None


@task(queue_name=queue.SCHEDULED)
def purge_events() -> dict[str, int] | None:
    """Removes events that are older than EVENTS_KEPT_FOR_DAYS; 0 keeps them."""
    days = settings.EVENTS_KEPT_FOR_DAYS
    return {"removed": outbox.purge(before=timezone.now() - timedelta(days=days))} if days else None


@task(queue_name=queue.SCHEDULED)
def purge_exports() -> dict[str, int]:
    """Removes exports of lists that have expired, with their parts."""
    expired = Export.objects.filter(expires_at__lt=timezone.now())
    return {"removed": expired.delete()[1].get("reversals.Export", 0)}


@task(queue_name=queue.SCHEDULED)
def clear_sessions() -> None:
    """Removes sessions of staff that have ended."""
    call_command("clearsessions")


@task(queue_name=queue.SCHEDULED)
def examine_setup() -> dict[str, int]:
    """Runs the checks of `doctor` on this machine, and stores what they find for the metrics."""
    findings = examination.examine()
    examination.store(findings)
    # Otherwise the list of tasks would have little else.
    DBTaskResult.objects.successful().filter(task_path=examine_setup.module_path).delete()
    return {"errors": sum(each.status == Status.ERROR for each in findings)}


@task(queue_name=queue.REQUESTED)
def send_emails() -> dict[str, int]:
    """Sends the emails about approval requests that are new."""
    sent = notices.send_news()
    # Otherwise the list of tasks would have little else.
    DBTaskResult.objects.successful().filter(task_path=send_emails.module_path).delete()
    return {"sent": sent}


@task(queue_name=queue.SCHEDULED)
def purge_tasks() -> dict[str, int]:
    """Removes tasks that ended long ago, failed ones too."""
    return {"removed": queue.purge(before=timezone.now() - ENDED_TASKS_ARE_KEPT_FOR)}
