"""Checks the copies of the ledger: standbys, the replica of the back office, the archive of the log, and backups."""

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.utils import timezone

from reversals.models import Backup
from reversals.operations.doctor.database import one, row
from reversals.operations.doctor.findings import Finding, fine, warning, wrong
from reversals.operations.worker.queue import is_somebody_working

OLDEST_BACKUP = timedelta(hours=26)
LAG_SECONDS = 30


def replication() -> Iterator[Finding]:
    if connection.vendor == "sqlite":
        return
    required = one("SHOW synchronous_standby_names")
    connected, may_see, synchronous, behind = row(
        "SELECT count(*), coalesce(bool_and(state IS NOT NULL), true),"
        " count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')),"
        " coalesce(extract(epoch FROM max(replay_lag)), 0) FROM pg_stat_replication"
    )
    lag = float(behind)
    idle_slots = one("SELECT string_agg(slot_name, ', ') FROM pg_replication_slots WHERE NOT active")
    if required and (not connected or (may_see and not synchronous)):
        yield wrong(
            "replication",
            f"synchronous_standby_names is {required!r}, and no such standby is connected, so every COMMIT waits",
            expected="a connected standby",
            do="Bring the standby back, or take it out of synchronous_standby_names and run SELECT pg_reload_conf().",
        )
    elif idle_slots:
        yield warning(
            "replication",
            f"nobody reads these slots, which keep WAL until the disk is full: {idle_slots}",
            expected="active slots only",
            do="Bring the standby back, or drop its slot with SELECT pg_drop_replication_slot(NAME).",
        )
    elif lag > LAG_SECONDS:
        yield warning(
            "replication",
            f"a standby is {lag:.0f} s behind, so a failover to it takes longer",
            expected=f"at most {LAG_SECONDS} s",
            do="Check the standby's load, its disk and the network between both.",
            value=lag,
        )
    else:
        standbys = "1 standby connected" if connected == 1 else f"{connected} standbys connected"
        seen = f", at most {lag:.0f} s behind" if connected and may_see else ""
        yield fine("replication", f"{standbys}{seen}", value=lag if may_see else None)


def replica() -> Iterator[Finding]:
    """Checks the replica in DATABASE_REPLICA_URL, from which the back office reads."""
    if "replica" not in settings.DATABASES:
        return
    is_replica, seconds = row(
        "SELECT pg_is_in_recovery(), CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0"
        " ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END",
        alias="replica",
    )
    lag = float(seconds or 0)
    if not is_replica:
        yield wrong(
            "replica",
            "DATABASE_REPLICA_URL points to a database that is no replica",
            expected="a streaming replica of the database in DATABASE_URL",
            do="Correct DATABASE_REPLICA_URL; after a failover the former replica is the primary.",
        )
    elif lag > LAG_SECONDS:
        yield warning(
            "replica",
            f"the replica is {lag:.0f} s behind, so pages read from the primary",
            expected=f"at most {LAG_SECONDS} s",
            do="Check the replica's load, its disk and the network between both.",
            value=lag,
        )
    else:
        yield fine("replica", f"{lag:.0f} s behind", value=lag)


def archive() -> Iterator[Finding]:
    if connection.vendor == "sqlite":
        return
    is_failing, name, mode = row(
        "SELECT coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false), last_failed_wal,"
        " current_setting('archive_mode') FROM pg_stat_archiver"
    )
    if is_failing:
        yield wrong(
            "archive",
            f"PostgreSQL cannot archive {name}",
            expected="each WAL file archived",
            do="Read archive_command's error in PostgreSQL's log, see the runbook under No recent backup.",
        )
    else:
        yield fine("archive", "no failure" if mode != "off" else "archive_mode is off: a restore loses what came since")


def worker() -> Iterator[Finding]:
    if is_somebody_working():
        yield fine("worker", "runs")
        return
    do = "Start manage.py work, see the runbook under Worker."
    yield wrong("worker", "no worker runs, so events, seals and checks wait", expected="one or more", do=do)


def backup() -> Iterator[Finding]:
    last = Backup.objects.order_by("-finished_at").first()
    if last is None:
        yield wrong(
            "backup",
            "no backup was ever recorded",
            expected="one each day",
            do="Run deploy/backup on a schedule, see docs/deployment.md.",
        )
        return
    age = timezone.now() - last.finished_at
    found, hours = (
        f"the last one ({last.kind}) finished {last.finished_at:%Y-%m-%d %H:%M} UTC",
        age / timedelta(hours=1),
    )
    if age <= OLDEST_BACKUP:
        yield fine("backup", found, value=hours)
        return
    do = "Find out why its schedule did not run, see the runbook under No recent backup."
    yield wrong("backup", found, expected="within 26 hours", do=do, value=hours)
