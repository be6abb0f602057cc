"""The orgs that a user may work on. Every page of the back office checks them here."""

from typing import Any

from django.db.models import QuerySet

from loyalty.models import Org


def orgs_of(user: Any) -> QuerySet[Org]:
    """Returns the orgs that the user may work on: all for a superuser, else those that they were given access to."""
    if user.is_superuser:
        return Org.objects.all()
    return Org.objects.filter(accesses__user_id=user.pk)


def may_work_on(user: Any, org_id: int) -> bool:
    """Returns whether the user may work on this org."""
    return orgs_of(user).filter(id=org_id).exists()
