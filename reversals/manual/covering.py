"""Covers redemptions that were imported before the points that they drew: finds lots for draws without a lot."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce

from loyalty.ledger.clock import database_now
from loyalty.ledger.drawing import PlannedDraw, plan_draws
from loyalty.ledger.locks import lock_customers, lock_lots_by_id
from loyalty.ledger.snapshots import LotFacts
from loyalty.models import Covering, CoveringLine, Draw, Lot, Org
from reversals.models import ReversalLine

ZERO = Decimal(0)


@dataclass
class Covered:
    """What was covered, and what is still without a lot."""

    redemptions: int = 0
    points: Decimal = ZERO
    uncovered_redemptions: int = 0
    uncovered_points: Decimal = ZERO


def cover_redemptions(org: Org, *, made_by: str, reason: str, dry_run: bool) -> Covered:
    """Lets draws without a lot draw what the customer's lots had at the time of the redemption, in order of time.

    Takes no more than a lot has now. A draw of which points were re-issued is left as it is. Records each redemption's
    covering with `made_by` and `reason`. One transaction per customer, so that others wait for one customer only.
    """
    covered = Covered()
    missing = Draw.objects.filter(org_id=org.id, lot__isnull=True)
    for customer_id in list(missing.order_by().values_list("redemption__customer_id", flat=True).distinct()):
        with transaction.atomic():
            _wait_patiently()
            lock_customers(org_id=org.id, ids=[customer_id])
            _Customer(org.id, customer_id, made_by, reason).cover(covered)
            transaction.set_rollback(dry_run)
    return covered


def _wait_patiently() -> None:
    """Waits for locks as long as an import does, so that one busy customer does not end a run of minutes."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '60s'")
            cursor.execute("SET LOCAL statement_timeout = 0")


class _Customer:
    """The lots of one locked customer, and what was taken from them and when."""

    def __init__(self, org_id: int, customer_id: int, made_by: str, reason: str) -> None:
        self.org_id, self.customer_id, self.made_by, self.reason = org_id, customer_id, made_by, reason
        ids = list(Lot.objects.filter(org_id=org_id, customer_id=customer_id).values_list("id", flat=True))
        lock_lots_by_id(org_id=org_id, ids=ids)
        lots = Lot.objects.filter(org_id=org_id, customer_id=customer_id).select_related("customer", "first_customer")
        self.lots = {lot.id: lot for lot in lots}
        self.moves: dict[int, list[tuple[datetime, Decimal]]] = defaultdict(list)
        for lot_id, moved_at, points in self._moves():
            self.moves[lot_id].append((moved_at, points))

    def cover(self, covered: Covered) -> None:
        draws = Draw.objects.filter(org_id=self.org_id, lot__isnull=True, redemption__customer_id=self.customer_id)
        for draw in draws.select_related("redemption").order_by("redemption__redeemed_at", "redemption_id"):
            left = draw.points - draw.points_reversed
            planned = [] if draw.points_reversed else self._plan(draw)
            taken = sum((part.points for part in planned), ZERO)
            if taken:
                self._write(draw, planned, taken)
                covered.redemptions += 1
                covered.points += taken
            if left > taken:
                covered.uncovered_redemptions += 1
                covered.uncovered_points += left - taken

    def _moves(self) -> Iterator[tuple[int, datetime, Decimal]]:
        """Yields lot, time and points of each move to (positive) or from the customer's lots."""
        of_customer = Q(org_id=self.org_id, lot__customer_id=self.customer_id)
        for lot_id, at, points in Draw.objects.filter(of_customer).values_list(
            "lot_id", "redemption__redeemed_at", "points"
        ):
            yield lot_id, at, -points
        lines = ReversalLine.objects.filter(
            org_id=self.org_id, draw__lot__customer_id=self.customer_id, reissued_lot__isnull=True
        )
        for lot_id, at, points in lines.values_list("draw__lot_id", "reversal__created_at", "points"):
            yield lot_id, at, points
        corrected = lines.filter(reversal__corrections__isnull=False)
        for lot_id, at, points in corrected.values_list("draw__lot_id", "reversal__corrections__created_at", "points"):
            yield lot_id, at, -points

    def _plan(self, draw: Draw) -> list[PlannedDraw]:
        """Plans the draws on lots, without the part that no lot covers."""
        redemption = draw.redemption
        at = redemption.redeemed_at
        drawn = set(redemption.draws.filter(lot__isnull=False).values_list("lot_id", flat=True))
        owner = redemption.first_customer_id or redemption.customer_id
        own = [lot for lot in self.lots.values() if (lot.first_customer_id or lot.customer_id) == owner]
        facts = [
            LotFacts(
                lot.id,
                (lot.first_customer or lot.customer).public_id,
                min(self._had(lot, at), lot.points_remaining),
                lot.awarded_at,
                lot.expires_at,
            )
            for lot in own
            if lot.id not in drawn
        ]
        return [part for part in plan_draws(facts, draw.points, at=at) if part.lot_id is not None]

    def _had(self, lot: Lot, at: datetime) -> Decimal:
        had: Decimal = lot.points_awarded
        return had + sum((points for moved_at, points in self.moves[lot.id] if moved_at <= at), ZERO)

    def _write(self, draw: Draw, planned: Sequence[PlannedDraw], taken: Decimal) -> None:
        """Splits the draw: the part that no lot covers stays first, and the planned draws follow it."""
        rest = draw.points - taken
        parts = [*([PlannedDraw(None, rest)] if rest else []), *planned]
        self._make_room(draw, len(parts) - 1)
        Draw.objects.filter(org_id=self.org_id, id=draw.id).update(
            lot_id=parts[0].lot_id,
            points=parts[0].points,
            first_points=Coalesce(F("first_points"), F("points")),
        )
        added = [
            Draw(
                org_id=self.org_id,
                redemption_id=draw.redemption_id,
                lot_id=part.lot_id,
                position=position,
                points=part.points,
                first_points=ZERO,
            )
            for position, part in enumerate(parts[1:], start=draw.position + 1)
        ]
        Draw.objects.bulk_create(added)
        covering = Covering.objects.create(
            org_id=self.org_id,
            redemption_id=draw.redemption_id,
            points=taken,
            reason=self.reason,
            made_by=self.made_by,
            made_at=database_now(),
        )
        CoveringLine.objects.bulk_create(
            CoveringLine(org_id=self.org_id, covering=covering, draw_id=row_id, lot_id=part.lot_id, points=part.points)
            for row_id, part in zip([draw.id, *(row.id for row in added)], parts, strict=True)
            if part.lot_id is not None
        )
        self._take(draw.redemption.redeemed_at, planned)

    def _make_room(self, draw: Draw, count: int) -> None:
        """Moves the draws behind this one, the last first, because a position exists once."""
        behind = Draw.objects.filter(org_id=self.org_id, redemption_id=draw.redemption_id, position__gt=draw.position)
        for row_id in list(behind.order_by("-position").values_list("id", flat=True)) if count else []:
            Draw.objects.filter(org_id=self.org_id, id=row_id).update(
                first_position=Coalesce(F("first_position"), F("position")), position=F("position") + count
            )

    def _take(self, at: datetime, planned: Sequence[PlannedDraw]) -> None:
        for part in planned:
            lot = self.lots[part.lot_id or 0]
            lot.points_remaining -= part.points
            Lot.objects.filter(org_id=self.org_id, id=lot.id).update(points_remaining=lot.points_remaining)
            self.moves[lot.id].append((at, -part.points))
