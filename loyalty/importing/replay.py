"""Replays imported redemptions: draws each from its customer's lots, in order of time."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import connection

from loyalty.fields import new_row_id
from loyalty.importing.bulk import analyze, rows_into
from loyalty.importing.stages import DRAW_COLUMNS, STAGE_REPLAY, TAKE_DRAWN
from loyalty.ledger.clock import as_datetime, as_datetime_or_none
from loyalty.ledger.drawing import in_drawing_order, plan_draws_in_order
from loyalty.ledger.points import from_thousandths, to_thousandths
from loyalty.ledger.snapshots import LotFacts
from loyalty.ledger.sql import places

_CUSTOMERS_AT_ONCE = 500


@dataclass
class Uncovered:
    """Counts draws of points that no lot covered, and their points."""

    redemptions: int = 0
    points: Decimal = Decimal(0)


def replay(cursor: Any, *, progress: Callable[[int, int], None]) -> Uncovered:
    """Replays the staged new redemptions in the caller's transaction. Calls `progress` with the count and the total."""
    return _Replay(cursor).run(progress)


class _Replay:
    def __init__(self, cursor: Any) -> None:
        self.cursor = cursor
        self.uncovered = Uncovered()

    def run(self, progress: Callable[[int, int], None]) -> Uncovered:
        self.cursor.execute(STAGE_REPLAY)
        total = self.cursor.rowcount
        self.cursor.execute("CREATE INDEX stage_replay_customer ON stage_replay (org_id, customer)")
        analyze(self.cursor, "stage_replay")
        done = 0
        self.cursor.execute("SELECT DISTINCT org_id FROM stage_replay ORDER BY org_id")
        for (org_id,) in self.cursor.fetchall():
            last_customer = 0
            while customers := self._next_customers(org_id, after=last_customer):
                last_customer = customers[-1]
                done += self._redeem(org_id, customers)
                progress(done, total)
        self.cursor.execute(TAKE_DRAWN)
        return self.uncovered

    def _next_customers(self, org_id: int, *, after: int) -> list[int]:
        """Locks the next customers to replay, as every movement of points does first, and returns their row ids."""
        self.cursor.execute(
            "SELECT DISTINCT customer FROM stage_replay WHERE org_id = %s AND customer > %s"
            f" ORDER BY customer LIMIT {_CUSTOMERS_AT_ONCE}",
            [org_id, after],
        )
        customers = [row[0] for row in self.cursor.fetchall()]
        if customers and connection.vendor == "postgresql":
            self.cursor.execute(
                f"SELECT id FROM loyalty_customer WHERE org_id = %s AND id IN ({places(customers)})"
                " ORDER BY id FOR NO KEY UPDATE",
                [org_id, *customers],
            )
        return customers

    def _redeem(self, org_id: int, customers: list[int]) -> int:
        lots = self._lots_of(org_id, customers)
        self.cursor.execute(
            # Parsing times from text is faster than the PostgreSQL driver's own conversion.
            "SELECT customer, redemption, points, CAST(redeemed_at AS text) FROM stage_replay"
            f" WHERE org_id = %s AND customer IN ({places(customers)}) ORDER BY customer, redeemed_at, line",
            [org_id, *customers],
        )
        redemptions = self.cursor.fetchall()
        drawn: dict[int, int] = defaultdict(int)
        with rows_into(self.cursor, "loyalty_draw", DRAW_COLUMNS) as add:
            for customer, redemption, points, redeemed_at in redemptions:
                own_lots = lots[customer]
                planned = plan_draws_in_order(own_lots.values(), from_thousandths(points), at=as_datetime(redeemed_at))
                for position, draw in enumerate(planned, start=1):
                    taken = to_thousandths(draw.points)
                    add((new_row_id(), org_id, redemption, draw.lot_id, position, taken, 0))
                    if draw.lot_id is None:
                        self.uncovered.points += draw.points
                        self.uncovered.redemptions += 1
                    else:
                        drawn[draw.lot_id] += taken
                        own_lots[draw.lot_id] = own_lots[draw.lot_id].less(draw.points)
                        if not own_lots[draw.lot_id].points_remaining:
                            del own_lots[draw.lot_id]
        with rows_into(self.cursor, "stage_drawn") as add:
            for lot_id, taken in drawn.items():
                add((org_id, lot_id, taken))
        return len(redemptions)

    def _lots_of(self, org_id: int, customers: list[int]) -> dict[int, dict[int, LotFacts]]:
        """Returns the customers' lots with remaining points, by customer and lot, in drawing order."""
        self.cursor.execute(
            "SELECT lot.customer_id, lot.id, customer.public_id, lot.points_remaining,"
            " CAST(lot.awarded_at AS text), CAST(lot.expires_at AS text)"
            " FROM loyalty_lot lot JOIN loyalty_customer customer"
            " ON customer.org_id = lot.org_id AND customer.id = lot.customer_id"
            f" WHERE lot.org_id = %s AND lot.customer_id IN ({places(customers)}) AND lot.points_remaining > 0",
            [org_id, *customers],
        )
        lots: dict[int, list[LotFacts]] = {customer: [] for customer in customers}
        for customer, lot_id, public_id, remaining, awarded_at, expires_at in self.cursor.fetchall():
            lots[customer].append(
                LotFacts(
                    lot_id,
                    public_id,
                    from_thousandths(remaining),
                    as_datetime(awarded_at),
                    as_datetime_or_none(expires_at),
                )
            )
        return {customer: {lot.id: lot for lot in in_drawing_order(own)} for customer, own in lots.items()}
