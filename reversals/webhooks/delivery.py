"""Delivers events: claims due deliveries, sends them outside a transaction, and records the outcome."""

import logging
import random
import time
from collections import Counter
from collections.abc import Iterable, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone
from django.utils.http import parse_http_date_safe

from loyalty import maintenance
from loyalty.errors import InvalidOperation
from loyalty.ledger.distribution import is_distributed
from loyalty.models import Webhook
from loyalty.outages import note_outage, outage_of
from loyalty.webhooks import checked_url, signing_secrets
from reversals.models import Delivery
from reversals.webhooks import network, resting, signing
from reversals.webhooks.network import Answer
from reversals.webhooks.outbox import RETRIED_FOR, body_of
from reversals.webhooks.resting import doubling

logger = logging.getLogger(__name__)

# Receivers wait in threads, which are started only when they are needed. The shares keep some free for other orgs while
# all receivers of 20 orgs need 10 s for each answer.
AT_ONCE = 128
AT_ONCE_TO_ONE_ORG = 6
AT_ONCE_TO_ONE_WEBHOOK = 4
# A webhook gets one delivery until its receiver has given this worker a good answer, and after each fault.
UNPROVEN_AT_ONCE = 96
UNPROVEN_AT_ONCE_TO_ONE_ORG = 4
SECONDS_FOR_A_SEND = 10
# Longer than the deadline for a send, because a DNS look-up ends only by the resolver's own limit, usually 30 s, and
# its failure must be recorded within the lease.
LEASE = timedelta(seconds=60)
POLL_SECONDS = 0.5
SECONDS_TO_WAIT_FOR_THE_DATABASE = 5

# Short, because the customer's later events wait for the retry, and most failures of a receiver pass quickly.
FIRST_DELAY = timedelta(seconds=0.25)
LONGEST_DELAY = timedelta(hours=1)

Status = Delivery.Status


class Worker:
    """Delivers several events at once. Its threads only send; all database work is done by the caller's thread."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter(dict.fromkeys(("delivered", "failed", "given_up"), 0))
        self._sending: dict[Future[Answer], Delivery] = {}
        # The webhooks whose last answer to this worker was good.
        self._proven: set[int] = set()
        self._is_stopping = False

    def stop(self) -> None:
        """Makes `run` return after the deliveries being sent are recorded. Safe to call from a signal handler."""
        self._is_stopping = True

    def run(self, *, once: bool) -> None:
        """Delivers until `stop`, or with `once` until no delivery is due or being sent.

        If the database fails, raises the error with `once`; otherwise waits and tries again.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while not self._is_stopping or self._sending:
                try:
                    is_idle = self._turn(pool)
                except Error as error:
                    if once or outage_of(error) is None:
                        raise
                    note_outage(error)
                    connection.close()
                    time.sleep(SECONDS_TO_WAIT_FOR_THE_DATABASE)
                    continue
                if is_idle and once:
                    return
                if is_idle:
                    time.sleep(POLL_SECONDS)

    def _turn(self, pool: ThreadPoolExecutor) -> bool:
        """Starts due deliveries and records finished ones. Returns True if there was nothing to do."""
        if not self._is_stopping:
            for delivery in self._claim():
                self._sending[pool.submit(send, delivery, time.monotonic() + SECONDS_FOR_A_SEND)] = delivery
        if not self._sending:
            return True
        ended, _ = wait(self._sending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        for future in ended:
            self._record(self._sending.pop(future), future.result())
        return False

    def _record(self, delivery: Delivery, answer: Answer) -> None:
        if resting.fault_of(answer) is None:
            self._proven.add(delivery.webhook_id)
        else:
            self._proven.discard(delivery.webhook_id)
        outcome = record(delivery, answer)
        if outcome is not None:
            self.outcomes["failed" if outcome == Status.PENDING else outcome.value.lower()] += 1

    def _claim(self) -> list[Delivery]:
        """Claims as many deliveries as the shares of their webhooks and orgs allow."""
        shares = _Shares(self._sending.values(), self._proven)
        claimed: list[Delivery] = []
        if not shares.are_full():
            for webhook in shares.in_turn(webhooks_with_something_due()):
                room = shares.room_for(webhook)
                if room > 0:
                    started = claim(webhook, at_most=room)
                    shares.take(started)
                    claimed += started
        return claimed


class _Shares:
    """Divides a worker's sends at one time between webhooks and orgs.

    A webhook is unproven while its receiver may be slow or failing. Unproven webhooks get one send each, and together
    they leave some sends to the proven ones.
    """

    def __init__(self, sending: Iterable[Delivery], proven: Set[int]) -> None:
        self._proven = proven
        self._to_webhook: Counter[int] = Counter()
        self._to_org: Counter[int] = Counter()
        self._unproven_to_org: Counter[int] = Counter()
        self.take(sending)

    def take(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._to_webhook[delivery.webhook_id] += 1
            self._to_org[delivery.org_id] += 1
            self._unproven_to_org[delivery.org_id] += not self._is_proven(delivery.webhook)

    def are_full(self) -> bool:
        return self._to_org.total() >= AT_ONCE

    def in_turn(self, webhooks: Iterable[Webhook]) -> list[Webhook]:
        """Returns the webhooks in the order of claims: no fault last time first, then orgs with few sends."""
        return sorted(webhooks, key=lambda webhook: (webhook.failure_count > 0, self._to_org[webhook.org_id]))

    def room_for(self, webhook: Webhook) -> int:
        room = min(AT_ONCE - self._to_org.total(), AT_ONCE_TO_ONE_ORG - self._to_org[webhook.org_id])
        if self._is_proven(webhook):
            return min(room, AT_ONCE_TO_ONE_WEBHOOK - self._to_webhook[webhook.id])
        return min(
            room,
            1 - self._to_webhook[webhook.id],
            UNPROVEN_AT_ONCE_TO_ONE_ORG - self._unproven_to_org[webhook.org_id],
            UNPROVEN_AT_ONCE - self._unproven_to_org.total(),
        )

    def _is_proven(self, webhook: Webhook) -> bool:
        return webhook.id in self._proven and not webhook.failure_count


def webhooks_with_something_due() -> QuerySet[Webhook]:
    """Returns the active webhooks with due deliveries, in random order, so that each gets its turn.

    Leaves out webhooks that rest. Returns none while maintenance is on.
    """
    now = timezone.now()
    due = Delivery.objects.filter(status=Status.PENDING, due_at__lte=now)
    has_due: Any = Q(id__in=due.values_list("webhook_id", flat=True).distinct())
    if not is_distributed():
        # Looks into the index once for each webhook. In a cluster, the shards of deliveries cannot see the webhooks.
        has_due = Exists(due.filter(org_id=OuterRef("org_id"), webhook_id=OuterRef("id")))
    rested = Q(rests_until__isnull=True) | Q(rests_until__lte=now)
    webhooks = Webhook.objects.filter(rested, has_due, is_active=True)
    return webhooks.filter(maintenance.is_off()).order_by("?")


@transaction.atomic
def claim(webhook: Webhook, *, at_most: int) -> list[Delivery]:
    """Leases up to `at_most` due deliveries. Each is the first pending delivery of its customer to the webhook.

    Skips deliveries that another worker has locked or leased.
    """
    now = timezone.now()
    pending = Delivery.objects.filter(org_id=webhook.org_id, webhook_id=webhook.id, status=Status.PENDING)
    of_customer = pending.filter(customer_id=OuterRef("customer_id"))
    # Scalar subqueries instead of EXISTS, because PostgreSQL then checks one delivery after the other until it has
    # enough, instead of joining all pending ones.
    first = of_customer.order_by("event_id").values("event_id")[:1]
    # A later delivery may be in progress if staff requested an earlier one again.
    in_progress = of_customer.filter(leased_until__gt=now).values("event_id")[:1]
    unleased = Q(leased_until__isnull=True) | Q(leased_until__lte=now)
    due = (
        pending.filter(unleased, due_at__lte=now, event_id=Subquery(first))
        .alias(in_progress=Subquery(in_progress))
        .filter(in_progress__isnull=True)
        .select_related("event")
    )
    due = due.filter(maintenance.is_off())  # again, because it may have been switched on since the webhook was found
    claimed: list[Delivery] = list(due.select_for_update(skip_locked=True, of=("self",)).order_by("due_at")[:at_most])
    Delivery.objects.filter(org_id=webhook.org_id, id__in=[delivery.id for delivery in claimed]).update(
        leased_until=now + LEASE
    )
    for delivery in claimed:
        delivery.leased_until = now + LEASE
        delivery.webhook = webhook
    return claimed


def send(delivery: Delivery, deadline: float) -> Answer:
    """Posts the delivery's event and returns the answer, without the database. `deadline` is a time.monotonic()."""
    started = time.monotonic()
    answer = _answer_to(delivery, deadline)
    return replace(answer, seconds=time.monotonic() - started)


def _answer_to(delivery: Delivery, deadline: float) -> Answer:
    webhook, event = delivery.webhook, delivery.event
    try:
        url = checked_url(webhook.url)
    except InvalidOperation as error:  # the URL is older than a rule, or a setting has changed
        return Answer(None, str(error), was_reached=False)
    body = body_of(event)
    headers = {"content-type": "application/json", "user-agent": "loyalty-back-office"} | signing.signed_headers(
        secrets=signing_secrets(webhook), event_id=event.event_id, timestamp=int(time.time()), body=body
    )
    return network.post(
        url,
        headers=headers,
        body=body,
        deadline=deadline,
        private_allowed=settings.WEBHOOKS_TO_PRIVATE_ADDRESSES,
    )


@transaction.atomic
def record(delivery: Delivery, answer: Answer) -> Status | None:
    """Records the outcome of a claimed delivery and returns its new status.

    Writes nothing and returns None if another worker has taken the lease in the meantime.
    """
    now = timezone.now()
    status = _status_after(delivery, answer, now)
    due_at = now if answer.status == 410 else now + delay(delivery.tries + 1, answer, now=now)
    held = Delivery.objects.filter(
        org_id=delivery.org_id, id=delivery.id, status=Status.PENDING, leased_until=delivery.leased_until
    ).update(
        status=status,
        tries=F("tries") + 1,
        due_at=due_at,
        leased_until=None,
        last_status=answer.status,
        last_answer=answer.text,
        delivered_at=now if status == Status.DELIVERED else None,
    )
    if not held:
        return None
    if status == Status.GIVEN_UP:
        logger.warning("gave up %s: %s %s", delivery, answer.status, answer.text)
    if status == Status.PENDING:
        _those_behind(delivery).filter(due_at__lt=due_at).update(due_at=due_at)
    else:
        next_one = _those_behind(delivery).order_by("event_id").values("id")[:1]
        Delivery.objects.filter(org_id=delivery.org_id, id__in=next_one, due_at__gt=now).update(due_at=now)
    resting.note(delivery, answer, now)
    return status


def delay(tries: int, answer: Answer, *, now: datetime) -> timedelta:
    """Returns the wait after this many tries: 0.25 s, doubled with each try up to 1 hour, plus up to 25 % at random.

    If the receiver's Retry-After is longer, returns that, but at most 1 hour.
    """
    backoff = doubling(FIRST_DELAY, tries, at_most=LONGEST_DELAY) * random.uniform(1, 1.25)
    return max(backoff, min(_requested_wait(answer.retry_after, now=now), LONGEST_DELAY))


def deliver_again(deliveries: QuerySet[Delivery]) -> int:
    """Makes the deliveries due now, whatever their status, with a full period of retries. Returns their number.

    Deliveries to an inactive webhook wait until it is active.
    """
    now = timezone.now()
    return deliveries.update(
        status=Status.PENDING, tries=0, due_at=now, give_up_at=now + RETRIED_FOR, delivered_at=None
    )


def _status_after(delivery: Delivery, answer: Answer, now: datetime) -> Status:
    if answer.is_success:
        return Status.DELIVERED
    if answer.status == 410:
        return Status.PENDING
    if answer.status == 400 or now >= delivery.give_up_at:
        return Status.GIVEN_UP
    return Status.PENDING


def _those_behind(delivery: Delivery) -> QuerySet[Delivery]:
    """Returns the customer's later pending deliveries. They wait in any case; a later due time keeps claims fast."""
    return Delivery.objects.filter(
        org_id=delivery.org_id,
        webhook_id=delivery.webhook_id,
        customer_id=delivery.customer_id,
        event_id__gt=delivery.event_id,
        status=Status.PENDING,
    )


def _requested_wait(retry_after: str | None, *, now: datetime) -> timedelta:
    """Returns the wait that a Retry-After header requests in seconds or as a date; zero if it is missing or invalid."""
    if retry_after is None:
        return timedelta(0)
    if retry_after.isascii() and retry_after.isdigit():
        return timedelta(seconds=int(retry_after[:9]))
    date = parse_http_date_safe(retry_after)
    return timedelta(0) if date is None else timedelta(seconds=date - now.timestamp())
