"""Resets of a user's password or second factor by another user, who could then sign in as that user."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.models import Org, StaffChange

BARRED_FOR, SHOWN_FOR = timedelta(days=1), timedelta(days=30)
ACTIONS = ("password changed", "second factor reset")


def check_may_approve(username: str) -> None:
    """Raises InvalidOperation if another user reset this user's sign-in within the last day."""
    last = _by_others(since=timezone.now() - BARRED_FOR).filter(subject_name=username).first()
    if last is not None:
        raise InvalidOperation(
            f"the sign-in of {username} was reset by {last.made_by}, so {username} can approve nothing until"
            f" {last.made_at + BARRED_FOR:%Y-%m-%d %H:%M} UTC"
        )


def recent(orgs: QuerySet[Org, Any], *, at_most: int) -> list[StaffChange]:
    """Returns the resets within the last 30 days of users who work on one of these orgs, the newest first."""
    users = User.objects.filter(Q(is_superuser=True) | Q(org_accesses__org__in=orgs)).values("username")
    return list(_by_others(since=timezone.now() - SHOWN_FOR).filter(subject_name__in=users)[:at_most])


def _by_others(*, since: datetime) -> QuerySet[StaffChange]:
    """The resets since then, the newest first. Changes of users have no org, which an index makes few."""
    resets = StaffChange.objects.filter(
        org__isnull=True, made_at__gt=since, subject=User._meta.label_lower, action__in=ACTIONS
    )
    return resets.exclude(made_by=F("subject_name")).order_by("-made_at")
