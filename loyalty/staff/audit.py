"""The audit of changes that staff make in the back office: who, when, before, after and why. It is kept forever."""

from collections.abc import Mapping
from typing import Any

from django.db import models
from django.utils import timezone

from loyalty.models import Org, StaffChange
from loyalty.request_id import current_request_id


def record_change(
    subject: models.Model,
    *,
    org: Org | None,
    action: str,
    made_by: str,
    reason: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> StaffChange:
    """Records one change of `subject`. Call it in the transaction of the change itself.

    `before` and `after` hold only the changed fields, as text, numbers, booleans or None, and never a secret.
    """
    change = StaffChange(
        org=org,
        subject=subject._meta.label_lower,
        subject_id=str(subject.pk),
        subject_name=str(subject)[:200],
        action=action,
        before=dict(before),
        after=dict(after),
        reason=reason,
        made_by=made_by,
        made_at=timezone.now(),
        request_id=current_request_id(),
    )
    change.save(force_insert=True)
    return change
