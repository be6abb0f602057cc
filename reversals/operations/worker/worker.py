"""Runs everything that is not a call, until it is stopped: events, the schedule, and what users request."""

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Thread
from uuid import UUID, uuid4

from django.db import connection
from django.utils import timezone

from reversals.operations.worker import queue
from reversals.operations.worker.schedule import Schedule
from reversals.webhooks import delivery

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
SECONDS_AFTER_AN_ERROR = 5.0
# A task that does not end within this time is run again by another worker. Shorter than TimeoutStopSec of systemd.
SECONDS_TO_STOP = 12.0


class Worker:
    """One thread reports and adds scheduled tasks, one runs the tasks of each queue, and one delivers events."""

    def __init__(self) -> None:
        self.id = uuid4().hex
        self._events = delivery.Worker()
        self._schedule = Schedule()
        self._holding: set[UUID] = set()
        self._is_stopping = False

    def stop(self) -> None:
        """Makes `run` return soon. Safe to call from a signal handler."""
        self._is_stopping = True
        self._events.stop()

    def run(self) -> None:
        """Works until `stop`. A failure of the database or of a thread is logged, and the work goes on after it."""
        loops = [partial(self._events.run, once=False), *(partial(self._run_tasks, [name]) for name in queue.QUEUES)]
        workers = [Thread(target=self._keep_on, args=[loop], daemon=True) for loop in loops]
        self._report()
        for thread in (*workers, Thread(target=self._keep_on, args=[self._report_often], daemon=True)):
            thread.start()
        while not self._is_stopping:
            time.sleep(POLL_SECONDS / 2)
        ends_at = time.monotonic() + SECONDS_TO_STOP
        for thread in workers:
            thread.join(max(0.0, ends_at - time.monotonic()))
        queue.leave(self.id)

    def run_once(self) -> None:
        """Adds the scheduled tasks, delivers the events that are due, and runs tasks until none is due."""
        self._report()
        self._events.run(once=True)
        while self._run_one(queue.QUEUES) and not self._is_stopping:
            self._report()
        queue.leave(self.id)

    def _report(self) -> None:
        queue.report(self.id, f"{socket.gethostname()}, process {os.getpid()}")
        queue.release_lost(self.id, holding=self._holding)
        self._schedule.add_due(timezone.now())

    def _report_often(self) -> None:
        while not self._is_stopping:
            time.sleep(queue.REPORTS_EVERY.total_seconds())
            self._report()

    def _run_tasks(self, queues: Sequence[str]) -> None:
        while not self._is_stopping:
            if not self._run_one(queues):
                time.sleep(POLL_SECONDS)

    def _run_one(self, queues: Sequence[str]) -> bool:
        row = queue.claim(queues, self.id)
        if row is None:
            return False
        self._holding.add(row.id)
        try:
            queue.run(row)
        finally:
            self._holding.discard(row.id)
        return True

    def _keep_on(self, loop: Callable[[], object]) -> None:
        """Runs the loop until the worker stops. Begins it again after an error."""
        while not self._is_stopping:
            try:
                loop()
            except Exception:
                logger.exception("the worker failed; it goes on in %s s", SECONDS_AFTER_AN_ERROR)
                connection.close()
                time.sleep(SECONDS_AFTER_AN_ERROR)
