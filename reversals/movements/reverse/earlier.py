"""Looks up what the rules of a reversal must know of earlier reversals."""

from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from loyalty.emf import registry as emf
from loyalty.emf.registry import EmfSettings
from loyalty.ledger.customers import has_lifted_status
from loyalty.ledger.points import to_thousandths
from loyalty.ledger.snapshots import RedemptionFacts
from loyalty.models import Customer
from loyalty.staff.locks import lock_username
from reversals.models import Attempt, Channel, Correction, Reversal, ReversalLine
from reversals.movements.past_reversals import last_reversal_of, standing
from reversals.movements.reverse.requests import ReversalRequest
from reversals.movements.reverse.rules import ZERO, EarlierReversals, LimitUse

DAY = timedelta(hours=24)


def earlier_reversals(
    *,
    attempt: Attempt,
    request: ReversalRequest,
    redemption: RedemptionFacts,
    settings: EmfSettings,
    now: datetime,
) -> EarlierReversals:
    """Looks up only what the rules and settings need: most first reversals of a redemption run no query.

    Corrected reversals do not count.
    """
    last = duplicate = None
    is_manual, manual = attempt.channel != Channel.API, ZERO
    if redemption.points_reversed:
        of_redemption = standing(attempt.org_id).filter(redemption_id=redemption.id)
        if not redemption.points_left:
            last = last_reversal_of(org_id=attempt.org_id, redemption_id=redemption.id)
        seconds = settings.get(emf.DUPLICATE_WINDOW_SECONDS, redemption.program.id)
        if seconds and not attempt.idempotency_key:
            duplicate = _find_duplicate(
                attempt.org_id, redemption.id, request.points_asked, since=now - timedelta(seconds=seconds)
            )
        if is_manual and settings.get(emf.APPROVAL_POINTS, redemption.program.id) is not None:
            manual = _points_without_approval(of_redemption)
    limit_use: dict[int, LimitUse] = {}
    limits = (emf.LIMIT_COUNT, emf.LIMIT_POINTS)
    if any(settings.get(limit, redemption.program.id) is not None for limit in limits):
        days = settings.get(emf.LIMIT_DAYS, redemption.program.id)
        limit_use = _limit_use(attempt.org_id, redemption.customer_ids, since=now - timedelta(days=days))
    if not is_manual:
        return EarlierReversals(last, duplicate, limit_use)
    since = now - DAY
    of_user = ZERO
    if settings.get(emf.APPROVAL_POINTS_PER_DAY, redemption.program.id) is not None:
        of_user = _points_of_user(attempt, since)
    lifted = has_lifted_status(redemption.customer.id, org_id=attempt.org_id, user=attempt.made_by, since=since)
    return EarlierReversals(last, duplicate, limit_use, manual, of_user, lifted)


def _points_of_user(attempt: Attempt, since: datetime) -> Decimal:
    """The points that the user of a manual reversal reversed without approval since then.

    Locks the user until the transaction ends, so that two reversals at once cannot both count the same points.
    """
    lock_username(attempt.made_by)
    return _points_without_approval(standing(attempt.org_id).filter(made_by=attempt.made_by, created_at__gt=since))


def _limit_use(org_id: int, customer_ids: Collection[int], *, since: datetime) -> dict[int, LimitUse]:
    """What counts against the limits since then, by customer.

    A reversal of the customer's own redemption counts in full. A reversal of another member's redemption counts with
    the points that went to the customer's own lots.
    """
    own = (
        standing(org_id)
        .filter(customer_id__in=_with_merged(org_id, customer_ids), created_at__gt=since)
        .order_by()
        .values_list(Coalesce("customer__merged_into_id", "customer_id"))
        .annotate(Count("id"), Sum("points"))
    )
    # Each table is filtered by org, so that its index is used.
    of_others = (
        ReversalLine.objects.filter(
            ~Exists(Correction.objects.filter(org_id=org_id, reversal_id=OuterRef("reversal_id"))),
            org_id=org_id,
            draw__org_id=org_id,
            draw__points_reversed__gt=0,
            draw__lot__org_id=org_id,
            draw__lot__customer_id__in=customer_ids,
            reversal__created_at__gt=since,
        )
        .exclude(reversal__redemption__customer_id=F("draw__lot__customer_id"))
        .order_by()
        .values_list("draw__lot__customer_id")
        .annotate(Count("reversal_id", distinct=True), Sum("points"))
    )
    uses: dict[int, LimitUse] = {}
    for customer_id, count, points in [*own, *of_others]:
        use = uses.get(customer_id, LimitUse())
        uses[customer_id] = LimitUse(use.count + count, use.points + points)
    return uses


def _with_merged(org_id: int, customer_ids: Collection[int]) -> QuerySet[Customer, Any]:
    """Selects the row ids of the customers and of those who were merged into them."""
    customers = Customer.objects.filter(Q(id__in=customer_ids) | Q(merged_into_id__in=customer_ids), org_id=org_id)
    return customers.values("id")


def _points_without_approval(reversals: QuerySet[Reversal]) -> Decimal:
    """The points of the manual reversals that had no approval."""
    alone = reversals.filter(approvals__isnull=True).exclude(channel=Channel.API)
    return alone.aggregate(points=Sum("points"))["points"] or ZERO


def _find_duplicate(org_id: int, redemption_id: int, points_asked: Decimal | None, *, since: datetime) -> str | None:
    """The public id of a reversal of the same amount, made since then without a key.

    Raw SQL, because all partial reversals after the first run it, and the ORM would double the cost of the look-ups.
    """
    amount, params = ("IS NULL", []) if points_asked is None else ("= %s", [to_thousandths(points_asked)])
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT reversal.public_id
              FROM reversals_reversal reversal
             WHERE reversal.org_id = %s AND reversal.redemption_id = %s AND reversal.created_at > %s
               AND NOT reversal.has_key AND reversal.points_asked {amount}
               AND NOT EXISTS (SELECT 1 FROM reversals_correction correction
                                WHERE correction.org_id = reversal.org_id AND correction.reversal_id = reversal.id)
             LIMIT 1
            """,
            [org_id, redemption_id, connection.ops.adapt_datetimefield_value(since), *params],
        )
        row = cursor.fetchone()
    return row[0] if row else None
