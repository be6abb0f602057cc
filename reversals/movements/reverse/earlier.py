"""What a reversal has to know of earlier ones."""

from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection
from django.db.models import Count, Exists, F, OuterRef, QuerySet, Sum

from loyalty.emf import registry as emf
from loyalty.emf.registry import EmfSettings
from loyalty.ledger.points import to_thousandths
from loyalty.ledger.snapshots import RedemptionFacts
from reversals.models import Attempt, Channel, Correction, Reversal, ReversalLine
from reversals.movements.past_reversals import last_reversal_of, standing
from reversals.movements.reverse.requests import ReversalRequest
from reversals.movements.reverse.rules import ZERO, EarlierReversals, LimitUse


def earlier_reversals(
    *,
    attempt: Attempt,
    request: ReversalRequest,
    redemption: RedemptionFacts,
    settings: EmfSettings,
    now: datetime,
) -> EarlierReversals:
    """What the rules need to know of earlier reversals, and no more: most first reversals ask nothing.

    A reversal that was corrected counts as not made.
    """
    last = duplicate = None
    manual = ZERO
    if redemption.points_reversed:
        of_redemption = standing(attempt.org_id).filter(redemption_id=redemption.id)
        if not redemption.points_left:
            last = last_reversal_of(org_id=attempt.org_id, redemption_id=redemption.id)
        seconds = settings.get(emf.DUPLICATE_WINDOW_SECONDS, redemption.program.id)
        if seconds and not attempt.idempotency_key:
            duplicate = _find_duplicate(
                attempt.org_id, redemption.id, request.points_asked, since=now - timedelta(seconds=seconds)
            )
        if attempt.channel != Channel.API and settings.get(emf.APPROVAL_POINTS, redemption.program.id) is not None:
            manual = _points_on_one_word(of_redemption)
    limit_use: dict[int, LimitUse] = {}
    limits = (emf.LIMIT_COUNT, emf.LIMIT_POINTS)
    if any(settings.get(limit, redemption.program.id) is not None for limit in limits):
        days = settings.get(emf.LIMIT_DAYS, redemption.program.id)
        limit_use = _limit_use(attempt.org_id, redemption.customer_ids, since=now - timedelta(days=days))
    return EarlierReversals(last, duplicate, limit_use, manual)


def _limit_use(org_id: int, customer_ids: Collection[int], *, since: datetime) -> dict[int, LimitUse]:
    """By customer, what counts against their limits since then: reversals of redemptions of theirs count whole.

    Of reversals of other members' redemptions count the points that went to the customer's own lots.
    """
    own = (
        standing(org_id)
        .filter(customer_id__in=customer_ids, created_at__gt=since)
        .order_by()
        .values_list("customer_id")
        .annotate(Count("id"), Sum("points"))
    )
    # The org of each table leads to its indexes.
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
        .exclude(reversal__customer_id=F("draw__lot__customer_id"))
        .order_by()
        .values_list("draw__lot__customer_id")
        .annotate(Count("reversal_id", distinct=True), Sum("points"))
    )
    uses: dict[int, LimitUse] = {}
    for customer_id, count, points in [*own, *of_others]:
        use = uses.get(customer_id, LimitUse())
        uses[customer_id] = LimitUse(use.count + count, use.points + points)
    return uses


def _points_on_one_word(reversals: QuerySet[Reversal]) -> Decimal:
    """The points of those reversals that one person made manually, approved by nobody else."""
    alone = reversals.filter(approvals__isnull=True).exclude(channel=Channel.API)
    return alone.aggregate(points=Sum("points"))["points"] or ZERO


def _find_duplicate(org_id: int, redemption_id: int, points_asked: Decimal | None, *, since: datetime) -> str | None:
    """The public id of a reversal of the same amount, made since then without a key.

    Written out, because every part of a redemption but the first asks it, and an ORM query costs as much as all else.
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
