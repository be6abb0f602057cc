"""Which orgs a member of staff may work on: every page of the back office asks here."""

from typing import Any

from django.db.models import QuerySet

from loyalty.models import Org


def orgs_of(user: Any) -> QuerySet[Org]:
    """The orgs that the user may work on: a superuser on all, others on those given to them."""
    if user.is_superuser:
        return Org.objects.all()
    return Org.objects.filter(accesses__user_id=user.pk)


def may_work_on(user: Any, org_id: int) -> bool:
    """Whether the user may work on this org."""
    return orgs_of(user).filter(id=org_id).exists()
