"""Rests webhooks whose receivers give no answer, are slow or fail, so that other deliveries do not wait for them."""

import logging
from datetime import datetime, timedelta

from django.db.models import F

from loyalty.models import Webhook
from reversals.models import Delivery
from reversals.webhooks.network import Answer

logger = logging.getLogger(__name__)

SLOW_FROM_SECONDS = 2.0
# One slow answer or error says little about the next one. A missing answer rests the webhook at once, because it
# costs the whole time of a send.
SLOW_OR_FAILING_BEFORE_REST = 3
FIRST_REST = timedelta(seconds=1)
LONGEST_REST = timedelta(minutes=5)
GIVEN_UP_AT_ONCE = 1_000

Reason = Webhook.RestReason


def fault_of(answer: Answer) -> Webhook.RestReason | None:
    """Returns what is wrong with the answer; None for 2xx and 400 in good time, which both settle the event."""
    if not answer.was_reached:
        return Reason.UNREACHABLE
    if answer.status != 400 and not answer.is_success:
        return Reason.FAILING
    return Reason.SLOW if answer.seconds >= SLOW_FROM_SECONDS else None


def note(delivery: Delivery, answer: Answer, now: datetime) -> None:
    """Counts a fault on the delivery's webhook and may let it rest. A good answer ends the rest."""
    webhook, fault = delivery.webhook, fault_of(answer)
    this = Webhook.objects.filter(org_id=webhook.org_id, id=webhook.id)
    if answer.status == 410:
        logger.warning("the receiver disabled webhook %s of org %s", webhook, webhook.org_id)
        this.update(is_active=False, disabled_at=now, disabled_reason="The receiver answered 410 Gone.")
    elif fault is None:
        if webhook.failure_count:
            this.update(failure_count=0, rests_until=None, rest_reason="")
    elif fault != Reason.FAILING or answer.seconds >= SLOW_FROM_SECONDS or not delivery.tries:
        # A quick error on a later try is not counted: one event that the receiver never accepts has growing delays
        # of its own, and must not hold up the events of other customers.
        rest = rest_after(webhook.failure_count + 1, fault, answer)
        # Deliveries that were sent at the same time and failed too are not counted again.
        this.filter(failure_count=webhook.failure_count).update(
            failure_count=F("failure_count") + 1, rests_until=now + rest if rest else None, rest_reason=fault
        )
        if rest and fault != Reason.SLOW:
            _give_up_overdue(webhook, fault, now)


def rest_after(count: int, fault: Webhook.RestReason, answer: Answer) -> timedelta | None:
    """Returns the rest after this many consecutive faults: 1 s, doubled with each further fault up to 5 minutes.

    A receiver that accepts events slowly rests at most as long as it took, so that its events never pile up for good.
    """
    times = count if fault == Reason.UNREACHABLE else count - SLOW_OR_FAILING_BEFORE_REST + 1
    if times < 1:
        return None
    longest = min(LONGEST_REST, timedelta(seconds=answer.seconds)) if fault == Reason.SLOW else LONGEST_REST
    return doubling(FIRST_REST, times, at_most=longest)


def doubling(first: timedelta, times: int, *, at_most: timedelta) -> timedelta:
    """Doubles `first` for each time after the first, up to `at_most`."""
    # The exponent is limited, because larger powers of two overflow a timedelta.
    return min(first * (1 << min(times - 1, 20)), at_most)


def _give_up_overdue(webhook: Webhook, fault: Webhook.RestReason, now: datetime) -> None:
    """Gives up all deliveries past their time to a receiver that does not accept any, without trying each."""
    past = Delivery.objects.filter(
        org_id=webhook.org_id,
        webhook_id=webhook.id,
        status=Delivery.Status.PENDING,
        give_up_at__lte=now,
        leased_until__isnull=True,
    )
    given_up = Delivery.objects.filter(id__in=past.values("id")[:GIVEN_UP_AT_ONCE], status=Delivery.Status.PENDING)
    count = given_up.update(status=Delivery.Status.GIVEN_UP, last_answer=f"Not sent in time: {fault.label}.")
    if count:
        logger.warning("gave up deliveries to webhook %s of org %s: %s", webhook, webhook.org_id, count)
