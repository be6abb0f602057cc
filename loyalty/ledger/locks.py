"""Locks and reads ledger rows for movements of points. All locking reads of the project are in this module.

The statements are raw SQL, because building an ORM query costs more time than the database needs to run it. They
select rows by org, and join parents by row id. `org_of` names the org of the joined tables: a foreign key over
(org, id) already ensures it, but a Citus cluster needs it to find the node.
All movements take locks in one order: idempotency key, customers by id, redemption, lots by id.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.utils import timezone

from loyalty.ledger.clock import as_datetime, as_datetime_or_none, clock
from loyalty.ledger.distribution import is_distributed, org_of
from loyalty.ledger.identifiers import Identifier
from loyalty.ledger.points import from_thousandths, to_thousandths
from loyalty.ledger.queries import customer_condition
from loyalty.ledger.snapshots import (
    CustomerFacts,
    DrawFacts,
    LotFacts,
    ProgramFacts,
    RedemptionFacts,
    Wallet,
    WalletLot,
)
from loyalty.ledger.sql import ROWS_AT_ONCE, Statement, places

# Tables are locked in this order. The joined program and lots are not locked, because the columns read of them do not
# change. Note: a lock on the program would make all calls of an org wait for one row.
REDEMPTION_LOCK = "FOR NO KEY UPDATE OF customer, redemption, draw"


@dataclass(frozen=True, slots=True)
class EarlierRedemption:
    """A redemption to look for: made within this time by a request without key and reference number.

    `customer_id` is a row id. Without `program_public_id`, it may be of any program.
    """

    customer_id: int
    points: Decimal
    transaction_number: str
    program_public_id: str | None
    within: timedelta


def lock_redemption(
    *,
    org_id: int,
    identifier: Identifier | None,
    public_id: str | None,
    external_reference_number: str | None,
    candidate_public_id: str,
) -> RedemptionFacts | None:
    """Locks the customer, the redemption and its draws, and returns them as they are once locked.

    The customer is the one with `identifier`, or else the redemption's customer. Returns None if the customer does not
    exist, or does not have this redemption. `candidate_public_id` is an id for a new row; the facts state whether a
    redemption has this id already.

    One statement locks and reads, to save a round trip. After PostgreSQL waited for a lock, it reads the locked rows
    again, but not the other joined tables. So only columns that do not change are read from those, and no aggregates.
    Note: a webhook that is created during the wait may miss the event.
    The clock is outside of the locking subquery, because inside of it PostgreSQL would read it before the wait.
    """
    (found, found_params), draws = _found(org_id, *_redemption_condition(org_id, public_id, external_reference_number))
    of_customer = ""
    customer_params: list[Any] = []
    if identifier is not None:
        condition, customer_params = customer_condition(org_id, identifier)
        of_customer = f"WHERE {condition}"
    now, now_params = clock()
    with connection.cursor() as cursor:
        cursor.execute(
            _locking_redemption(now, found, draws, of_customer),
            [*now_params, org_id, candidate_public_id, org_id, *found_params, *[org_id] * 3, *customer_params],
        )
        rows = cursor.fetchall()
    return _redemption_facts(rows) if rows else None


def _found(org_id: int, named: str, params: list[Any]) -> tuple[Statement, str]:
    """Returns the tables that find the redemption for which the condition holds, and what joins its draws to them."""
    if is_distributed():  # planning takes most of the time there, and each table names the org in any case
        found = f"(SELECT asked.* FROM loyalty_redemption asked WHERE {named}) redemption"
        return (found, params), "draw.redemption_id = redemption.id"
    # The LIMIT prevents PostgreSQL from applying the org's id to the other tables. For an org that is newer than the
    # last ANALYZE, it expects almost no rows, and then reads all draws of the org to find those of one redemption.
    found = f"""(SELECT asked.org_id, asked.id FROM loyalty_redemption asked WHERE {named} LIMIT 1) found
          JOIN loyalty_redemption redemption ON redemption.id = found.id AND {org_of("redemption")} = %s"""
    return (found, [*params, org_id]), "draw.org_id = found.org_id AND draw.redemption_id = found.id"


def _locking_redemption(now: str, found: str, draws: str, of_customer: str) -> str:
    """Returns the statement that locks the redemption in the tables `found`. All arguments are SQL."""
    return f"""
        SELECT {now}, locked.* FROM (
        SELECT customer.id, customer.public_id, customer.status,
               customer.reversals_locked, customer.reversals_locked_until,
               program.id, program.public_id, program.is_active,
               redemption.id, redemption.public_id, redemption.points, redemption.points_reversed,
               redemption.redeemed_at,
               EXISTS (SELECT 1 FROM loyalty_redemption taken WHERE taken.org_id = %s AND taken.public_id = %s),
               EXISTS (SELECT 1 FROM loyalty_webhook webhook WHERE webhook.org_id = %s AND webhook.is_active),
               draw.id, draw.position, draw.points, draw.points_reversed,
               draw.lot_id, lot.lot_ref, lot.expires_at, lot.customer_id, lot.is_reissue
          FROM {found}
          JOIN loyalty_customer customer ON customer.id = redemption.customer_id AND {org_of("customer")} = %s
          JOIN loyalty_program program ON program.id = redemption.program_id
          JOIN loyalty_draw draw ON {draws} AND {org_of("draw")} = %s
          LEFT JOIN loyalty_lot lot ON lot.id = draw.lot_id AND {org_of("lot")} = %s
         {of_customer}
         ORDER BY draw.position
         {REDEMPTION_LOCK if connection.vendor == "postgresql" else ""}
        ) locked
    """


def lock_customers(*, org_id: int, ids: Collection[int], against_new_rows: bool = False) -> list[CustomerFacts]:
    """Locks the customers with these row ids, in the order of their ids, and returns them as they are once locked.

    `against_new_rows` also waits for transactions that have added rows of these customers, such as an import, and
    keeps others from adding some.
    """
    if not ids:
        return []
    mode = "FOR UPDATE" if against_new_rows else "FOR NO KEY UPDATE"
    return _lock_customers(f"customer.id IN ({places(ids)})", org_id, [*ids], mode=mode)


def lock_customer(*, org_id: int, public_id: int) -> CustomerFacts | None:
    """Locks the customer with this public id and returns it as it is once locked, or None if it does not exist."""
    locked = _lock_customers("customer.public_id = %s", org_id, [public_id])
    return locked[0] if locked else None


def _lock_customers(
    condition: str, org_id: int, params: list[Any], *, mode: str = "FOR NO KEY UPDATE"
) -> list[CustomerFacts]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT customer.id, customer.public_id, customer.status,
                   customer.reversals_locked, customer.reversals_locked_until
              FROM loyalty_customer customer
             WHERE customer.org_id = %s AND {condition}
             ORDER BY customer.id
             {mode if connection.vendor == "postgresql" else ""}
            """,
            [org_id, *params],
        )
        return [_customer_facts(row) for row in cursor.fetchall()]


def lock_wallet(
    *,
    org_id: int,
    customer_ids: Collection[int],
    candidate_is_taken: Statement,
    earlier: EarlierRedemption | None = None,
) -> Wallet:
    """Locks the customers' lots that can be drawn on now, in the order of their ids, and returns them with programs.

    The caller must hold the customers' locks, so that no lot can be added at the same time. `candidate_is_taken` is an
    SQL condition; the wallet states whether it is true. The wallet also names the redemption that `earlier` describes.

    The lots are locked in the WITH clause, because PostgreSQL cannot lock rows of the nullable side of a LEFT JOIN.
    """
    condition = (
        f"lot.org_id = %s AND lot.customer_id IN ({places(customer_ids)}) AND lot.points_remaining > 0"
        " AND lot.awarded_at <= (SELECT now FROM moment)"
        " AND (lot.expires_at IS NULL OR lot.expires_at > (SELECT now FROM moment))"
    )
    now, now_params = clock()
    taken, taken_params = candidate_is_taken
    repeats, repeats_params = _earlier_redemption(org_id, earlier)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH moment AS MATERIALIZED (SELECT {now} AS now),
                 lot AS ({_locking_lots(condition)})
            SELECT moment.now, {taken},
                   EXISTS (SELECT 1 FROM loyalty_webhook webhook WHERE webhook.org_id = %s AND webhook.is_active),
                   {repeats},
                   program.id, program.public_id, program.is_active, lot.*
              FROM moment
              LEFT JOIN loyalty_program program ON program.org_id = %s
              LEFT JOIN lot ON lot.program_id = program.id
             ORDER BY program.id, lot.id
            """,
            [*now_params, org_id, org_id, *customer_ids, *taken_params, org_id, *repeats_params, org_id],
        )
        return _wallet(cursor.fetchall())


def _earlier_redemption(org_id: int, earlier: EarlierRedemption | None) -> Statement:
    """Returns the SQL expression for the public id of the first such redemption, or NULL.

    The LIMIT of the inner query hides the org's id from PostgreSQL, as in `lock_redemption`. Otherwise it would read
    all redemptions of an org that it has no statistics of, instead of those of the customer within the time.
    """
    if earlier is None:
        return "NULL", []
    # PostgreSQL uses its own clock, and an index only with a value that it computed beforehand.
    since, since_params = "(SELECT now FROM moment) - %s", list[Any]([earlier.within])
    if connection.vendor != "postgresql":
        since, since_params = "%s", [connection.ops.adapt_datetimefield_value(timezone.now() - earlier.within)]
    in_program, program_params = "", list[Any]()
    if earlier.program_public_id is not None:
        in_program = """ AND redemption.program_id IN (SELECT asked.id FROM loyalty_program asked
                            WHERE asked.org_id = %s AND CAST(asked.public_id AS text) = %s)"""
        program_params = [org_id, earlier.program_public_id]
    first = f"""(SELECT redemption.public_id
                FROM (SELECT CAST(%s AS bigint) AS org_id, CAST(%s AS bigint) AS id LIMIT 1) holder
                JOIN loyalty_redemption redemption
                  ON redemption.org_id = holder.org_id AND redemption.customer_id = holder.id
                 AND {org_of("redemption")} = %s
               WHERE redemption.redeemed_at > {since} AND redemption.points = %s AND redemption.transaction_number = %s
                 AND redemption.external_reference_number IS NULL AND NOT redemption.has_key
                 AND redemption.ledger_import_id IS NULL{in_program}
               ORDER BY redemption.redeemed_at LIMIT 1)"""
    points = to_thousandths(earlier.points)
    return first, [
        org_id,
        earlier.customer_id,
        org_id,
        *since_params,
        points,
        earlier.transaction_number,
        *program_params,
    ]


def lock_lots_by_id(*, org_id: int, ids: Collection[int]) -> list[WalletLot]:
    """Locks the lots with these row ids, in the order of the ids, and returns them as they are once locked."""
    ordered = sorted(ids)
    batches = [ordered[start : start + ROWS_AT_ONCE] for start in range(0, len(ordered), ROWS_AT_ONCE)]
    return [
        lot
        for batch in batches
        for lot in _lock_lots(f"{org_of('lot')} = %s AND lot.id IN ({places(batch)})", [org_id, org_id, *batch])
    ]


def _lock_lots(condition: str, params: list[Any]) -> list[WalletLot]:
    with connection.cursor() as cursor:
        cursor.execute(_locking_lots(condition), params)
        return [_wallet_lot(row) for row in cursor.fetchall()]


def _locking_lots(condition: str) -> str:
    return f"""
        SELECT lot.id, customer.public_id AS customer_public_id, lot.points_remaining, lot.awarded_at, lot.expires_at,
               lot.lot_ref, lot.customer_id, program.id AS program_id, program.public_id AS program_public_id
          FROM loyalty_lot lot
          JOIN loyalty_customer customer ON customer.id = lot.customer_id AND {org_of("customer")} = %s
          JOIN loyalty_program program ON program.id = lot.program_id
         WHERE {condition}
         ORDER BY lot.id
         {"FOR NO KEY UPDATE OF lot" if connection.vendor == "postgresql" else ""}
    """


def _redemption_condition(
    org_id: int, public_id: str | None, external_reference_number: str | None
) -> tuple[str, list[Any]]:
    """Returns the SQL condition for the redemption `asked`: its public id, its reference number, or both."""
    names = {"public_id": public_id, "external_reference_number": external_reference_number}
    given = {column: name for column, name in names.items() if name is not None}
    return " AND ".join(["asked.org_id = %s", *(f"asked.{column} = %s" for column in given)]), [org_id, *given.values()]


def _customer_facts(row: Sequence[Any]) -> CustomerFacts:
    return CustomerFacts(row[0], row[1], row[2], bool(row[3]), as_datetime_or_none(row[4]))


def _wallet_lot(row: Sequence[Any]) -> WalletLot:
    facts = LotFacts(row[0], row[1], from_thousandths(row[2]), as_datetime(row[3]), as_datetime_or_none(row[4]))
    return WalletLot(facts, *row[5:])


def _wallet(rows: Sequence[Sequence[Any]]) -> Wallet:
    now, is_taken, has_webhooks, repeats, *_ = rows[0]
    programs = {row[4]: ProgramFacts(row[4], row[5], bool(row[6])) for row in rows if row[4] is not None}
    return Wallet(
        now=as_datetime(now),
        programs=tuple(programs.values()),
        lots=tuple(_wallet_lot(row[7:]) for row in rows if row[7] is not None),
        candidate_is_taken=bool(is_taken),
        has_webhooks=bool(has_webhooks),
        repeats=repeats,
    )


def _redemption_facts(rows: Sequence[Sequence[Any]]) -> RedemptionFacts:
    # The clock of the last row, because all rows are locked by then.
    locked_at, *first = rows[-1][:16]
    return RedemptionFacts(
        customer=_customer_facts(first),
        program=ProgramFacts(first[5], first[6], bool(first[7])),
        id=first[8],
        public_id=first[9],
        points=from_thousandths(first[10]),
        points_reversed=from_thousandths(first[11]),
        redeemed_at=as_datetime(first[12]),
        candidate_is_taken=bool(first[13]),
        has_webhooks=bool(first[14]),
        locked_at=as_datetime(locked_at),
        draws=tuple(_draw_facts(row[16:]) for row in rows),
    )


def _draw_facts(row: Sequence[Any]) -> DrawFacts:
    return DrawFacts(
        id=row[0],
        position=row[1],
        points=from_thousandths(row[2]),
        points_reversed=from_thousandths(row[3]),
        lot_id=row[4],
        lot_ref=row[5],
        lot_expires_at=as_datetime_or_none(row[6]),
        lot_customer_id=row[7],
        lot_is_reissue=bool(row[8]),
    )
