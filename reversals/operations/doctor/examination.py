"""Runs all checks, each within bounded time, and stores what they found for the metrics."""

import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, Queue
from threading import Thread

from django.db import connections
from django.utils import timezone

from loyalty.outages import cause_of
from reversals.models import CheckResult
from reversals.operations.doctor import copies, database, machine, mail, public
from reversals.operations.doctor.findings import Finding, Status, warning, wrong

logger = logging.getLogger(__name__)

KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    run: Callable[[], Iterable[Finding]]
    needs_database: bool = True
    seconds: float = 6


CHECKS = (
    Check("database", database.reachable, needs_database=False, seconds=10),  # several hosts take 3 s each
    Check("version", database.version),
    Check("role", database.role),
    Check("timeouts", database.timeouts),
    Check("pooler", database.pooler),
    Check("migrations", database.migrations),
    Check("clock", database.clock),
    Check("replication", copies.replication),
    Check("replica", copies.replica),
    Check("archive", copies.archive),
    Check("backup", copies.backup),
    Check("worker", copies.worker),
    Check("anchor", machine.anchor),
    Check("secrets", machine.secrets, needs_database=False),
    Check("switches", machine.switches, needs_database=False),
    Check("disk", machine.disk, needs_database=False),
    Check("proxy", public.proxy, needs_database=False, seconds=10),
    Check("mail", mail.server, needs_database=False, seconds=10),
    Check("certificate", public.certificate, needs_database=False),
)


def examine() -> list[Finding]:
    """Runs all checks. Those that need the database are left out if it does not answer."""
    findings: list[Finding] = []
    for check in CHECKS:
        is_away = bool(findings) and findings[0].status == Status.ERROR
        if not (is_away and check.needs_database):
            findings += _within(check)
    return findings


def _within(check: Check) -> list[Finding]:
    """Runs the check in a thread with connections of its own, which is left behind if it does not end in time."""
    results: Queue[list[Finding]] = Queue()
    Thread(target=_run, args=(check, results), daemon=True).start()
    try:
        return results.get(timeout=check.seconds)
    except Empty:
        do = "Find out what hangs: the database, a disk, or the network."
        found = f"no result within {check.seconds:.0f} s"
        return [wrong(check.name, found, expected="a result", do=do)]


def _run(check: Check, results: "Queue[list[Finding]]") -> None:
    try:
        results.put(list(check.run()))
    except Exception as error:
        logger.debug("the check %s failed", check.name, exc_info=True)
        do = "If the database answers, report this with the version and with LOG_LEVEL=DEBUG."
        results.put([warning(check.name, f"it could not be checked: {cause_of(error)}", expected="a result", do=do)])
    finally:
        connections.close_all()


def store(findings: Iterable[Finding]) -> None:
    """Stores the findings of this machine for the metrics. Removes those of machines that stored none for a day."""
    now, host = timezone.now(), socket.gethostname()
    CheckResult.objects.bulk_create(
        [
            CheckResult(
                host=host,
                name=each.check,
                status=each.status,
                value=each.value,
                detail=f"{each.found}. {each.do}".strip()[:1000],
                checked_at=now,
            )
            for each in findings
        ],
        update_conflicts=True,
        unique_fields=["host", "name"],
        update_fields=["status", "value", "detail", "checked_at"],
    )
    CheckResult.objects.filter(host=host, checked_at__lt=now).delete()
    CheckResult.objects.filter(checked_at__lt=now - KEPT).delete()
