"""Sends a test event to a webhook at once, so that staff see whether its receiver answers and accepts the signature."""

import time
from uuid import uuid4

from django.utils import timezone

from loyalty.models import Webhook
from loyalty.request_id import current_request_id
from reversals.json_values import written_json
from reversals.models import Delivery, Event
from reversals.webhooks.delivery import send
from reversals.webhooks.network import Answer

TEST_EVENT = "webhookTest"
SECONDS_WAITED = 5.0


def send_test(webhook: Webhook) -> Answer:
    """Sends a signed event that says only that it is a test, and returns the answer. Stores and repeats nothing."""
    event = Event(
        id=0,
        org_id=webhook.org_id,
        name=TEST_EVENT,
        event_id=str(uuid4()),
        request_id=current_request_id(),
        data=written_json({"isTest": True}),
        created_at=timezone.now(),
    )
    return send(Delivery(event=event, webhook=webhook), time.monotonic() + SECONDS_WAITED)
