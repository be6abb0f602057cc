"""Records searches by identifiers and limits them, so that no user can find out an identifier by trying candidates."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from loyalty.ledger.identifiers import masked
from loyalty.models import StaffChange
from loyalty.staff.audit import record_change
from loyalty.staff.current_org import current_org

SEE_IDENTIFIERS = "loyalty.see_identifiers"
SEARCHED, LIMITED = "searched", "reached the limit of searches"
HOUR = timedelta(hours=1)
# Searches per hour of a user who sees identifiers, and of one who sees them masked.
LIMIT, LIMIT_MASKED = 600, 60


def limit_of(request: HttpRequest) -> int:
    """Returns how many searches by identifiers the user may make in an hour."""
    return LIMIT if request.user.has_perm(SEE_IDENTIFIERS) else LIMIT_MASKED


def is_over_limit(request: HttpRequest) -> bool:
    """Returns whether the user made as many searches as allowed in the last hour. Records the first refusal."""
    recent = _of_user(request).filter(made_at__gt=timezone.now() - HOUR)
    if recent.filter(action=SEARCHED).count() < limit_of(request):
        return False
    if not recent.filter(action=LIMITED).exists():
        _record(request, LIMITED, {"searches": limit_of(request)})
    return True


def record(request: HttpRequest, name: str, matched_by: Sequence[str]) -> None:
    """Records a search by identifiers: the masked text, and which kinds of identifier matched."""
    kinds = sorted({by.rpartition(" ")[0] for by in matched_by})
    _record(request, SEARCHED, {"text": masked(name), "matched": ", ".join(kinds) or "nothing"})


def _of_user(request: HttpRequest) -> Any:
    user: Any = request.user
    return StaffChange.objects.filter(subject=user._meta.label_lower, subject_id=str(user.pk))


def _record(request: HttpRequest, action: str, after: dict[str, Any]) -> None:
    user: Any = request.user
    record_change(
        user,
        org=current_org(request),
        action=action,
        made_by=user.get_username(),
        reason="A search in Find.",
        before={},
        after=after,
    )
