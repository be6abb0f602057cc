"""Reads of earlier reversals and of requests for approval. Only `lock_approval` and `lock_chain` lock."""

from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection
from django.db.models import Count, Exists, F, OuterRef, QuerySet, Sum

from loyalty import emf
from loyalty.emf import EmfSettings
from loyalty.facts import RedemptionFacts
from loyalty.identifiers import Identifier
from loyalty.points import to_thousandths
from loyalty.selectors import find_customer_id
from loyalty.statements import Statement
from reversals.correcting.rules import LineFacts, ReversalFacts
from reversals.models import Approval, Attempt, BulkRow, Channel, Correction, Reversal, ReversalLine, Seal
from reversals.requests import ReversalRequest
from reversals.rules import ZERO, EarlierReversals, LimitUse


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
    by_hand = ZERO
    if redemption.points_reversed:
        of_redemption = _standing(attempt.org_id).filter(redemption_id=redemption.id)
        if not redemption.points_left:
            last = last_reversal_of(org_id=attempt.org_id, redemption_id=redemption.id)
        seconds = settings.get(emf.DUPLICATE_WINDOW_SECONDS, redemption.program.id)
        if seconds and not attempt.idempotency_key:
            duplicate = _find_duplicate(
                attempt.org_id, redemption.id, request.points_asked, since=now - timedelta(seconds=seconds)
            )
        if attempt.channel != Channel.API and settings.get(emf.APPROVAL_POINTS, redemption.program.id) is not None:
            by_hand = _points_on_one_word(of_redemption)
    limit_use: dict[int, LimitUse] = {}
    limits = (emf.LIMIT_COUNT, emf.LIMIT_POINTS)
    if any(settings.get(limit, redemption.program.id) is not None for limit in limits):
        days = settings.get(emf.LIMIT_DAYS, redemption.program.id)
        limit_use = _limit_use(attempt.org_id, redemption.customer_ids, since=now - timedelta(days=days))
    return EarlierReversals(last, duplicate, limit_use, by_hand)


def _limit_use(org_id: int, customer_ids: Collection[int], *, since: datetime) -> dict[int, LimitUse]:
    """By customer, what counts against their limits since then: reversals of redemptions of theirs count whole.

    Of reversals of other members' redemptions count the points that went to the customer's own lots.
    """
    own = (
        _standing(org_id)
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


def last_reversal_of(*, org_id: int, redemption_id: int) -> str | None:
    """The public id of the redemption's last reversal that was not corrected; None if there is none."""
    reversals = _standing(org_id).filter(redemption_id=redemption_id).order_by("-created_at", "-id")
    return reversals.values_list("public_id", flat=True).first()


def _points_on_one_word(reversals: QuerySet[Reversal]) -> Decimal:
    """What those of the reversals gave back that one person made by hand, approved by nobody else."""
    alone = reversals.filter(approvals__isnull=True).exclude(channel=Channel.API)
    return alone.aggregate(points=Sum("points"))["points"] or ZERO


def _standing(org_id: int) -> QuerySet[Reversal]:
    """The org's reversals that were not corrected."""
    corrections = Correction.objects.filter(org_id=org_id, reversal_id=OuterRef("id"))
    return Reversal.objects.filter(~Exists(corrections), org_id=org_id)


def find_reversal_facts(*, org_id: int, public_id: str) -> ReversalFacts | None:
    """The org's reversal with this public id, and its lines in the order of giving back; None if there is none."""
    reversal = Reversal.objects.filter(org_id=org_id, public_id=public_id).select_related("redemption").first()
    if reversal is None:
        return None
    lines = ReversalLine.objects.filter(org_id=org_id, reversal_id=reversal.id).order_by("-draw__position")
    columns = ("draw_id", "points", "draw__lot_id", "reissued_lot_id", "draw__lot__customer_id")
    return ReversalFacts(
        id=reversal.id,
        public_id=reversal.public_id,
        redemption_id=reversal.redemption_id,
        redemption_public_id=reversal.redemption.public_id,
        customer_id=reversal.customer_id,
        points=reversal.points,
        lines=tuple(LineFacts(*line) for line in lines.values_list(*columns)),
    )


def corrected_at(*, org_id: int, reversal_id: int) -> datetime | None:
    """When the reversal with this row id was corrected; None if it was not."""
    corrections = Correction.objects.filter(org_id=org_id, reversal_id=reversal_id)
    return corrections.values_list("created_at", flat=True).first()


def is_reversal(*, org_id: int, public_id: str, identifier: Identifier | None) -> bool:
    """Whether the public id names a reversal of the customer that `identifier` names; of any without one."""
    named = Reversal.objects.filter(org_id=org_id, public_id=public_id)
    if identifier is None:
        return named.exists()
    customer_id = find_customer_id(org_id=org_id, identifier=identifier)
    return customer_id is not None and named.filter(customer_id=customer_id).exists()


def names_a_reversal(*, org_id: int, public_id: str) -> Statement:
    """The condition that the public id is a reversal's already, for a statement that locks."""
    named = "EXISTS (SELECT 1 FROM reversals_reversal named WHERE named.org_id = %s AND named.public_id = %s)"
    return named, [org_id, public_id]


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


def lock_approval(*, org_id: int, approval_id: int) -> Approval:
    """Locks the request for approval and returns it as it is once locked."""
    return Approval.objects.select_for_update(no_key=True).get(org_id=org_id, id=approval_id)


def lock_chain() -> Seal | None:
    """Keeps others from sealing until the transaction ends, and returns the last seal; None if there is none.

    SQLite has one writer at a time by itself. Whoever reads the chain does not wait.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # The limit of a request does not fit a look for what is unsealed.
            cursor.execute("SET LOCAL statement_timeout = 0")
            cursor.execute("LOCK TABLE reversals_seal IN EXCLUSIVE MODE")
    return Seal.objects.order_by("-id").first()


def people_behind(approval: Approval) -> set[str]:
    """Who asked for it: of a row of a bulk run also who made and who confirmed the run."""
    people = {approval.asked_by}
    if approval.channel == Channel.BULK:
        rows = BulkRow.objects.filter(org_id=approval.org_id, id=approval.key.removeprefix(BulkRow.KEY_PREFIX))
        for made_by, confirmed_by in rows.values_list("run__made_by", "run__confirmed_by"):
            people |= {made_by, confirmed_by}
    return people


def is_key_of_reversal(*, org_id: int, key: str) -> bool:
    """Whether a reversal was made under this idempotency key."""
    return Attempt.objects.filter(org_id=org_id, idempotency_key=key, holds_key=True, reversal__isnull=False).exists()
